//! The loaders read the publishers' real files from the folder that `PIXTAPE_DATA` names.
//!
//! If it is not set, these tests print SKIP and the reason. With `data` in `PIXTAPE_REQUIRE` they fail
//! instead.

use std::path::PathBuf;

use pixtape::data::{BatchOptions, Batches, Binarize, Images, Levels, Order, Split, open, publishers_sha256};

/// The folder of real files. Without one it prints why this test is skipped and returns `None`.
fn real_data(test: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("PIXTAPE_DATA").filter(|value| !value.is_empty()) {
        return Some(folder.into());
    }
    let required = std::env::var("PIXTAPE_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|word| word.trim() == "data"),
        "{test}: PIXTAPE_REQUIRE asks for `data`, but PIXTAPE_DATA is unset"
    );
    eprintln!("SKIP {test}: PIXTAPE_DATA is unset, it should name the folder of mnist/, cifar-10/, ...");
    None
}

fn label_counts(images: &Images) -> Vec<usize> {
    let mut counts = vec![0; images.classes()];
    images.labels().unwrap().iter().for_each(|&label| counts[usize::from(label)] += 1);
    counts
}

fn shape(images: &Images) -> [usize; 4] {
    [images.len(), images.height(), images.width(), images.channels()]
}

fn near(got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance, "{got} is not {want}");
}

#[test]
fn mnist() {
    let Some(folder) = real_data("mnist") else { return };
    let train = open("mnist", Split::Train, Some(&folder)).unwrap();
    assert_eq!(shape(&train), [60_000, 28, 28, 1]);
    assert_eq!(train.labels().unwrap()[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    assert_eq!(label_counts(&train), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    near(train.mean(), 33.318, 5e-4);
    let test = open("mnist", Split::Test, Some(&folder)).unwrap();
    assert_eq!(shape(&test), [10_000, 28, 28, 1]);
    assert_eq!(label_counts(&test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    near(test.mean(), 33.791, 5e-4);

    let fit = open("mnist", Split::Fit, Some(&folder)).unwrap();
    let valid = open("mnist", Split::Valid, Some(&folder)).unwrap();
    assert_eq!((fit.len(), valid.len()), (50_000, 10_000));
    assert_eq!(fit.image(49_999), train.image(49_999));
    assert_eq!(valid.image(0), train.image(50_000));
    assert_eq!(valid.labels().unwrap(), &train.labels().unwrap()[50_000..]);

    let by_folder = open(folder.join("mnist").to_str().unwrap(), Split::Test, None).unwrap();
    let file = folder.join("mnist/t10k-images-idx3-ubyte.gz");
    let by_file = open(file.to_str().unwrap(), Split::Test, None).unwrap();
    assert!(by_folder == test && by_file.pixels() == test.pixels() && by_file.labels() == test.labels());
}

#[test]
fn fashion_mnist() {
    let Some(folder) = real_data("fashion_mnist") else { return };
    let train = open("fashion-mnist", Split::Train, Some(&folder)).unwrap();
    assert_eq!((shape(&train), label_counts(&train)), ([60_000, 28, 28, 1], vec![6000; 10]));
    near(train.mean(), 72.940, 5e-4);
    let test = open("fashion-mnist", Split::Test, Some(&folder)).unwrap();
    assert_eq!((shape(&test), label_counts(&test)), ([10_000, 28, 28, 1], vec![1000; 10]));
    near(test.mean(), 73.147, 5e-4);
}

#[test]
fn cifar_10() {
    let Some(folder) = real_data("cifar_10") else { return };
    let train = open("cifar-10", Split::Train, Some(&folder)).unwrap();
    assert_eq!((shape(&train), label_counts(&train)), ([50_000, 32, 32, 3], vec![5000; 10]));
    assert_eq!(train.labels().unwrap()[..10], [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]);
    for (channel, want) in [0.4914, 0.4822, 0.4465].into_iter().enumerate() {
        let sum: u64 = train.pixels().iter().skip(channel).step_by(3).map(|&value| u64::from(value)).sum();
        near(sum as f64 / (50_000.0 * 1024.0 * 255.0), want, 5e-5);
    }
    let test = open("cifar-10", Split::Test, Some(&folder)).unwrap();
    assert_eq!((shape(&test), label_counts(&test)), ([10_000, 32, 32, 3], vec![1000; 10]));
    let valid = open("cifar-10", Split::Valid, Some(&folder)).unwrap();
    assert!(valid.len() == 5000 && valid.image(0) == train.image(45_000));
}

#[test]
fn binarized_mnist() {
    let Some(folder) = real_data("binarized_mnist") else { return };
    for (split, count, ones) in
        [(Split::Train, 50_000, 0.13056), (Split::Valid, 10_000, 0.13113), (Split::Test, 10_000, 0.13251)]
    {
        let images = open("binarized-mnist", split, Some(&folder)).unwrap();
        assert_eq!((shape(&images), images.levels(), images.labels()), ([count, 28, 28, 1], Levels::Binary, None));
        near(images.mean(), ones, 5e-6);
    }
}

/// The publisher's fixed sample and ours differ, but both are Bernoulli samples of the same MNIST test
/// images.
#[test]
fn our_static_binarisation_is_as_bright_as_the_published_one() {
    let Some(folder) = real_data("our_static_binarisation_is_as_bright_as_the_published_one") else { return };
    let test = std::sync::Arc::new(open("mnist", Split::Test, Some(&folder)).unwrap());
    let ones = |binarize: Binarize| {
        let options = BatchOptions { order: Order::InOrder, binarize, ..BatchOptions::new(10_000, 1) };
        let batch = Batches::new(test.clone(), options).unwrap().next_batch();
        batch.levels.iter().map(|&bit| u64::from(bit)).sum::<u64>() as f64 / batch.levels.len() as f64
    };
    near(ones(Binarize::Static), 0.13251, 1e-4);
    near(ones(Binarize::Dynamic), 0.13251, 1e-4);
}

/// The hashes in the program are those of the publishers' files. They were also computed by another program,
/// from the definition in docs/reliability.md.
#[test]
fn the_content_of_published_sets_is_known() {
    let Some(folder) = real_data("the_content_of_published_sets_is_known") else { return };
    for name in ["mnist", "fashion-mnist", "cifar-10", "binarized-mnist"] {
        for split in Split::ALL {
            let images = open(name, split, Some(&folder)).unwrap();
            assert_eq!(Some(images.sha256().as_str()), publishers_sha256(name, split), "{name} {split}");
        }
    }
    assert_eq!(publishers_sha256("glyphs", Split::Test), None);
}
