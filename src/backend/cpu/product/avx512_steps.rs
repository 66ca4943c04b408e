//! The steps of a register tile in AVX-512 assembly, for tiles of two vectors and 8 to 14 rows.
//!
//! They compute `sums[i][j] += a(i, k) * b[k][j]` for one k after another, where `j` is one of two vectors
//! of 16 columns. Each sum is one chain in the order of k, as in the loops of `tile.rs`, so the bits are the
//! same. A and B are floats, which `vfmadd231ps` multiplies and adds, or pairs of bf16 numbers (`bf16/`),
//! for which `vdpbf16ps` does the same; nothing else differs.
//!
//! They replace the compiler's loop over k. That loop has more pointers than registers (14 rows, B, its
//! stride, k and the end), so it reloads four of them from the stack in every step and takes 52 instructions
//! per step. When the loop is unrolled, the compiler moves the broadcasts of later steps to the front and
//! pushes sums out of the registers. Here an iteration is four steps of 46 instructions, and at most two
//! pointers are reloaded. Tiles of fewer rows have registers to spare and are left to the compiler. On one
//! core of a Sapphire Rapids this saved 3 to 9 % of the time of all measured shapes (docs/performance.md).
//!
//! Registers, in both functions: row `i` has its sums in `zmm(2i)` and `zmm(2i + 1)`; `zmm28` and `zmm29`
//! hold the two vectors of B; `zmm30` and `zmm31` take turns in holding the broadcast float of A. The table
//! `rows!` gives the registers of each row, and says where [`along`] keeps the row's pointer. [`across`]
//! has one pointer per step instead.

use super::tile::Right;
use std::arch::asm;
use std::arch::x86_64::__m512;
use std::ops::Range;

/// Calls `$t!($a [row 0] [row 1] ..)` with the first rows of a tile. For each row: its number, the register
/// through which its floats of A are read, the place on the stack from which that register is loaded before
/// every use (`held` if the register holds the pointer all the time), its two sums, and the register that
/// takes the broadcast float.
#[rustfmt::skip]
macro_rules! rows {
    (14, $t:ident $a:tt $($r:tt)*) => { rows!(13, $t $a [13 "r15" "[rsp + 24]" "zmm26" "zmm27" "zmm31"] $($r)*) };
    (13, $t:ident $a:tt $($r:tt)*) => { rows!(12, $t $a [12 "r15" "[rsp + 16]" "zmm24" "zmm25" "zmm30"] $($r)*) };
    (12, $t:ident $a:tt $($r:tt)*) => { rows!(11, $t $a [11 "r14" held "zmm22" "zmm23" "zmm31"] $($r)*) };
    (11, $t:ident $a:tt $($r:tt)*) => { rows!(10, $t $a [10 "r13" held "zmm20" "zmm21" "zmm30"] $($r)*) };
    (10, $t:ident $a:tt $($r:tt)*) => { rows!(9, $t $a [9 "r12" held "zmm18" "zmm19" "zmm31"] $($r)*) };
    (9, $t:ident $a:tt $($r:tt)*) => { rows!(8, $t $a [8 "r11" held "zmm16" "zmm17" "zmm30"] $($r)*) };
    (8, $t:ident $a:tt $($r:tt)*) => { rows!(7, $t $a [7 "r10" held "zmm14" "zmm15" "zmm31"] $($r)*) };
    (7, $t:ident $a:tt $($r:tt)*) => { rows!(6, $t $a [6 "r9" held "zmm12" "zmm13" "zmm30"] $($r)*) };
    (6, $t:ident $a:tt $($r:tt)*) => { rows!(5, $t $a [5 "r8" held "zmm10" "zmm11" "zmm31"] $($r)*) };
    (5, $t:ident $a:tt $($r:tt)*) => { rows!(4, $t $a [4 "rbp" held "zmm8" "zmm9" "zmm30"] $($r)*) };
    (4, $t:ident $a:tt $($r:tt)*) => { rows!(3, $t $a [3 "rdi" held "zmm6" "zmm7" "zmm31"] $($r)*) };
    (3, $t:ident $a:tt $($r:tt)*) => { rows!(2, $t $a [2 "rdx" held "zmm4" "zmm5" "zmm30"] $($r)*) };
    (2, $t:ident $a:tt $($r:tt)*) => { rows!(1, $t $a [1 "rbx" held "zmm2" "zmm3" "zmm31"] $($r)*) };
    (1, $t:ident $a:tt $($r:tt)*) => { rows!(0, $t $a [0 "rax" held "zmm0" "zmm1" "zmm30"] $($r)*) };
    (0, $t:ident $a:tt $($r:tt)*) => { $t!($a $($r)*) };
}

/// One row of one step: broadcasts the float at `$a` and adds its products with both vectors of B to the
/// row's sums.
macro_rules! multiply_add {
    ($op:literal, $a:expr, $low:tt $high:tt $float:tt) => {
        concat!(
            "vbroadcastss ",
            $float,
            ", [",
            $a,
            "]\n",
            $op,
            " ",
            $low,
            ", zmm28, ",
            $float,
            "\n",
            $op,
            " ",
            $high,
            ", zmm29, ",
            $float,
            "\n",
        )
    };
}

/// Reads the pointer of a row from the table in `r15`, into its register or onto the stack.
macro_rules! load_pointer {
    ($row:tt $pointer:tt held) => {
        concat!("mov ", $pointer, ", [r15 + 8 * ", $row, "]")
    };
    ($row:tt $pointer:tt $slot:tt) => {
        concat!("vmovq xmm30, [r15 + 8 * ", $row, "]\nvmovq ", $slot, ", xmm30")
    };
}

/// Makes the register of a row hold its pointer.
macro_rules! fetch_pointer {
    ($pointer:tt held) => {
        ""
    };
    ($pointer:tt $slot:tt) => {
        concat!("mov ", $pointer, ", ", $slot, "\n")
    };
}

/// Step `$u` of an iteration of [`along`]: `rsi` leads to the row of B for step 0, `rcx` is `4 * k` of step
/// 0.
macro_rules! step_along {
    ($op:literal, $u:literal, $([$row:tt $pointer:tt $slot:tt $low:tt $high:tt $float:tt])*) => {
        concat!(
            "vmovups zmm28, [rsi + 128 * ", $u, "]\n",
            "vmovups zmm29, [rsi + 128 * ", $u, " + 64]\n",
            $(
                fetch_pointer!($pointer $slot),
                multiply_add!($op, concat!($pointer, " + rcx + 4 * ", $u), $low $high $float),
            )*
        )
    };
}

/// One step of [`across`]: `$pointer` leads to the floats of A, `rcx` is `4 * first`, `rsi` leads to the row
/// of B.
macro_rules! step_across {
    ($op:literal, $a:literal, $([$row:tt $pointer:tt $slot:tt $low:tt $high:tt $float:tt])*) => {
        concat!(
            "vmovups zmm28, [rsi]\n",
            "vmovups zmm29, [rsi + 64]\n",
            "add rsi, rdx\n",
            $(multiply_add!($op, concat!($a, " + rcx + 4 * ", $row), $low $high $float),)*
        )
    };
}

/// All steps of [`along`] for one number of rows.
macro_rules! along {
    (
        ($op:literal $sums:ident $table:ident $b:ident $from:ident $main:ident $to:ident)
        $([$row:tt $pointer:tt $slot:tt $low:tt $high:tt $float:tt])*
    ) => {
        asm!(
            // `rbx` and `rbp` cannot be operands, so they are saved here. Then the ends of both loops.
            "push rbx",
            "push rbp",
            "sub rsp, 32",
            "mov [rsp], rdx",
            "mov [rsp + 8], r8",
            $(load_pointer!($row $pointer $slot),)*
            "cmp rcx, [rsp]",
            "jae 3f",
            ".p2align 5",
            "2:",
            step_along!($op, 0, $([$row $pointer $slot $low $high $float])*),
            step_along!($op, 1, $([$row $pointer $slot $low $high $float])*),
            step_along!($op, 2, $([$row $pointer $slot $low $high $float])*),
            step_along!($op, 3, $([$row $pointer $slot $low $high $float])*),
            "add rsi, 512",
            "add rcx, 16",
            "cmp rcx, [rsp]",
            "jb 2b",
            "3:",
            "cmp rcx, [rsp + 8]",
            "jae 5f",
            "4:",
            step_along!($op, 0, $([$row $pointer $slot $low $high $float])*),
            "add rsi, 128",
            "add rcx, 4",
            "cmp rcx, [rsp + 8]",
            "jb 4b",
            "5:",
            "add rsp, 32",
            "pop rbp",
            "pop rbx",
            inout("r15") $table => _,
            inout("rsi") $b => _,
            inout("rcx") 4 * $from => _,
            inout("rdx") 4 * $main => _,
            inout("r8") 4 * $to => _,
            out("rax") _, out("rdi") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _, out("r13") _, out("r14") _,
            $(inout($low) $sums[$row][0], inout($high) $sums[$row][1],)*
            out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
            options(readonly),
        )
    };
}

/// All steps of [`across`] for one number of rows.
macro_rules! across {
    (
        ($op:literal $sums:ident $table:ident $first:ident $b:ident $ldb:ident $steps:ident)
        $([$row:tt $pointer:tt $slot:tt $low:tt $high:tt $float:tt])*
    ) => {
        asm!(
            // `r9` counts the steps of the first loop down, `r8` those of the second.
            "mov r9, r8",
            "and r9, -4",
            "sub r8, r9",
            "test r9, r9",
            "jz 3f",
            ".p2align 5",
            "2:",
            "mov rax, [rdi]",
            "mov r10, [rdi + 8]",
            "mov r11, [rdi + 16]",
            "mov r12, [rdi + 24]",
            step_across!($op, "rax", $([$row $pointer $slot $low $high $float])*),
            step_across!($op, "r10", $([$row $pointer $slot $low $high $float])*),
            step_across!($op, "r11", $([$row $pointer $slot $low $high $float])*),
            step_across!($op, "r12", $([$row $pointer $slot $low $high $float])*),
            "add rdi, 32",
            "sub r9, 4",
            "jne 2b",
            "3:",
            "test r8, r8",
            "jz 5f",
            "4:",
            "mov rax, [rdi]",
            step_across!($op, "rax", $([$row $pointer $slot $low $high $float])*),
            "add rdi, 8",
            "dec r8",
            "jne 4b",
            "5:",
            inout("rdi") $table => _,
            inout("rsi") $b => _,
            in("rcx") 4 * $first,
            in("rdx") 4 * $ldb,
            inout("r8") $steps => _,
            out("rax") _, out("r9") _, out("r10") _, out("r11") _, out("r12") _,
            $(inout($low) $sums[$row][0], inout($high) $sums[$row][1],)*
            out("zmm28") _, out("zmm29") _, out("zmm30") _, out("zmm31") _,
            options(readonly, nostack),
        )
    };
}

/// Defines the functions for one instruction that multiplies and adds.
macro_rules! steps_by {
    ($op:literal, $features:literal, $along:ident, $across:ident) => {
        /// `sums[i][j] += a[i][k] * b[k - k.start][j]` for each k in order. Returns false, and does nothing,
        /// if the tile has fewer than 8 rows or one vector, or if the rows of B are not next to each other.
        ///
        /// # Safety
        /// - The processor has the features that this function enables.
        /// - `a` leads to `MR` pointers, each of which leads to `k.end` readable floats.
        /// - `b.b` leads to `k.len()` rows of 32 readable floats, `b.ldb` apart.
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $along<const MR: usize, const NV: usize>(
            sums: &mut [[__m512; NV]; MR],
            a: *const *const f32,
            b: Right,
            k: Range<usize>,
        ) -> bool {
            if NV != 2 || b.ldb != 32 {
                return false;
            }
            let (b, from, to) = (b.b, k.start, k.end);
            // The end of the last whole group of four steps.
            let main = from + (to - from) / 4 * 4;
            // SAFETY: an arm is taken only if the tile has as many rows as the arm names, so it reads `MR`
            // pointers of the table, the floats `from..to` that each leads to, and `to - from` rows of 32
            // floats of B: what the caller vouches for. It writes nothing but its own 48 bytes of stack,
            // which it gives back, and all registers that it changes are outputs or restored (`rbx`, `rbp`,
            // `rsp`). The jumps stay inside.
            unsafe {
                match MR {
                    8 => rows!(8, along ($op sums a b from main to)),
                    9 => rows!(9, along ($op sums a b from main to)),
                    10 => rows!(10, along ($op sums a b from main to)),
                    11 => rows!(11, along ($op sums a b from main to)),
                    12 => rows!(12, along ($op sums a b from main to)),
                    13 => rows!(13, along ($op sums a b from main to)),
                    14 => rows!(14, along ($op sums a b from main to)),
                    _ => return false,
                }
            }
            true
        }

        /// `sums[i][j] += a[k][first + i] * b[k][j]` for each k below `steps` in order. Returns false, and
        /// does nothing, if the tile has fewer than 8 rows or one vector.
        ///
        /// # Safety
        /// - The processor has the features that this function enables.
        /// - `a` leads to `steps` pointers, each of which leads to `first + MR` floats, of which the last
        ///   `MR` are readable.
        /// - `b.b` leads to `steps` rows of 32 readable floats, `b.ldb` apart.
        #[inline]
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $across<const MR: usize, const NV: usize>(
            sums: &mut [[__m512; NV]; MR],
            a: *const *const f32,
            first: usize,
            b: Right,
            steps: usize,
        ) -> bool {
            if NV != 2 {
                return false;
            }
            let (b, ldb) = (b.b, b.ldb);
            // SAFETY: an arm is taken only if the tile has as many rows as the arm names, so it reads
            // `steps` pointers of the table, `MR` floats from `first` on of what each leads to, and `steps`
            // rows of 32 floats of B: what the caller vouches for. It writes no memory and uses no stack,
            // and all registers that it changes are outputs. The jumps stay inside.
            unsafe {
                match MR {
                    8 => rows!(8, across ($op sums a first b ldb steps)),
                    9 => rows!(9, across ($op sums a first b ldb steps)),
                    10 => rows!(10, across ($op sums a first b ldb steps)),
                    11 => rows!(11, across ($op sums a first b ldb steps)),
                    12 => rows!(12, across ($op sums a first b ldb steps)),
                    13 => rows!(13, across ($op sums a first b ldb steps)),
                    14 => rows!(14, across ($op sums a first b ldb steps)),
                    _ => return false,
                }
            }
            true
        }
    };
}

steps_by!("vfmadd231ps", "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma", along, across);
steps_by!("vdpbf16ps", "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma", pairs_along, pairs_across);
