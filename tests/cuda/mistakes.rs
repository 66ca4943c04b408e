//! Tests of the tests: they put mistakes into kernels, which must be found.

use crate::stand_in::{Build, Change, StandIn, text};

/// Runs the check of `op` with a changed kernel file. The check must fail and print `complaint`.
#[track_caller]
fn is_found(build: Build, (file, op): (&str, &str), change: Change, complaint: &str) {
    let Some(stand_in) = StandIn::changed(build, &[file], &[change]) else { return };
    let output = stand_in.pixtape(&format!("check --device cuda --threads 1 --only {op}")).output().unwrap();
    let printed = text(&output);
    assert!(!output.status.success(), "nobody saw {change:?}:\n{printed}");
    assert!(printed.contains(complaint), "{change:?} was seen, but not by {complaint:?}:\n{printed}");
}

/// Without a change the same command passes, so the other tests find the change.
#[test]
fn no_mistake_is_no_complaint() {
    let Some(stand_in) = StandIn::changed(Build::Tsan, &["reduce.cu", "elementwise.cu"], &[]) else { return };
    let output = stand_in.pixtape("check --device cuda --threads 1 --only sum").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// Removes the barrier between filling a stage and multiplying it.
#[test]
fn a_removed_barrier() {
    let change = (
        "product.cuh",
        "        // All copies have arrived, and all threads have finished with the other stage.\n        __syncthreads();\n",
        "",
    );
    is_found(Build::Plain, ("matmul.cu", "matmul"), change, "is off by");
}

/// ThreadSanitizer reports the race itself, even if the numbers are correct.
#[test]
fn a_removed_barrier_as_a_race() {
    let change = ("norm.cu", "    __syncthreads();\n    lanes[lane][column] = v;", "    lanes[lane][column] = v;");
    is_found(Build::Tsan, ("norm.cu", "batch_norm"), change, "data race");
}

#[test]
fn a_missing_wait_for_asynchronous_copies() {
    let change = ("product.cuh", "        cp_async_wait();\n", "");
    is_found(Build::Plain, ("matmul.cu", "matmul"), change, "is off by");
}

#[test]
fn an_index_that_is_one_too_large() {
    let change = ("common.cuh", "i < (len);", "i <= (len);");
    is_found(Build::Asan, ("elementwise.cu", "affine"), change, "AddressSanitizer");
}

/// Guard memory after every allocation detects the write, without a sanitizer.
#[test]
fn a_write_behind_the_end() {
    let change = ("common.cuh", "i < (len);", "i <= (len);");
    is_found(Build::Plain, ("elementwise.cu", "affine"), change, "behind the end");
}

/// A kernel that is built for fewer threads than it is launched with.
#[test]
fn a_launch_of_the_wrong_size() {
    let change = ("reduce.cu", "KERNEL(THREADS, sum)", "KERNEL(THREADS / 2, sum)");
    is_found(Build::Plain, ("reduce.cu", "sum"), change, "CUDA_ERROR_INVALID_VALUE");
}

#[test]
fn threads_that_miss_a_barrier() {
    let change = ("reduce.cu", "        __syncthreads();\n", "        if (lane < half) __syncthreads();\n");
    is_found(Build::Plain, ("reduce.cu", "sum"), change, "__syncthreads()");
}
