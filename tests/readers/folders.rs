//! The layout of a folder of images: splits, classes, mixtures, and what is left out.

use super::{assert_has, notices, png, read, refusal, values, write};
use pixtape::data::Split;
use tempfile::tempdir;

#[test]
fn the_usual_names_of_splits_are_known_in_any_case() {
    let names = [("train", "val", "test"), ("Training", "Validation", "TESTING"), ("TRAIN", "Dev", "Test")];
    for (train, valid, test) in names {
        let dir = tempdir().unwrap();
        (0..5).for_each(|i| png(dir.path().join(train).join(format!("{i}.png")), i));
        png(dir.path().join(valid).join("a.png"), 100);
        png(dir.path().join(test).join("b.png"), 200);
        assert_eq!(values(&read(dir.path(), Split::Train)), [0, 1, 2, 3, 4], "{train}");
        assert_eq!(values(&read(dir.path(), Split::Fit)), [0, 1, 2, 3, 4], "{train}");
        assert_eq!(values(&read(dir.path(), Split::Valid)), [100], "{valid}");
        assert_eq!(values(&read(dir.path(), Split::Test)), [200], "{test}");
        let images = read(dir.path(), Split::Train);
        assert_eq!(images.labels(), None, "splits are no classes");
        let found = format!(
            "7 images of 4x4x1 without classes, in the splits 5 train (folder {train}), 1 valid (folder {valid}), 1 test \
             (folder {test})"
        );
        assert_eq!(notices(&images), [found]);
    }
}

#[test]
fn folders_of_digits_in_training_and_testing_are_classes() {
    let dir = tempdir().unwrap();
    for digit in 0..10_u8 {
        png(dir.path().join(format!("training/{digit}/1.png")), digit);
        png(dir.path().join(format!("testing/{digit}/2.png")), 100 + digit);
    }
    let test = read(dir.path(), Split::Test);
    assert_eq!(values(&test), (100..110).collect::<Vec<u8>>());
    assert_eq!(test.labels().unwrap(), (0..10).collect::<Vec<u8>>());
    assert_has(&notices(&test)[0], &["20 images of 4x4x1 in 10 classes (0, 1, 2, 3, 4, 5, 6, 7, ...)", "10 train"]);
}

#[test]
fn two_names_of_one_split_are_refused() {
    let dir = tempdir().unwrap();
    png(dir.path().join("train/a.png"), 0);
    png(dir.path().join("val/a.png"), 1);
    png(dir.path().join("valid/a.png"), 2);
    assert_has(&refusal(dir.path(), Split::Train), &["val and valid both name the split valid", "merge or rename"]);
}

#[test]
fn a_loose_image_next_to_classes_or_splits_is_refused() {
    let dir = tempdir().unwrap();
    (0..30).for_each(|i| png(dir.path().join(format!("cat/{i}.png")), i));
    png(dir.path().join("loose.png"), 99);
    let text = refusal(dir.path(), Split::Train);
    assert_has(&text, &["it has 1 image (the first is loose.png) next to sub-folders of images like cat", "or none"]);
    std::fs::rename(dir.path().join("cat"), dir.path().join("Train")).unwrap();
    let text = refusal(dir.path(), Split::Train);
    assert_has(&text, &["it has 1 image (the first is loose.png) next to its splits (Train)"]);
    png(dir.path().join("Train/dog/a.png"), 1);
    std::fs::remove_file(dir.path().join("loose.png")).unwrap();
    assert_has(&refusal(dir.path(), Split::Train), &["Train: it has 30 images", "like dog"]);
}

#[test]
fn a_class_next_to_splits_is_refused() {
    let dir = tempdir().unwrap();
    png(dir.path().join("train/a.png"), 0);
    png(dir.path().join("cat/deep/b.png"), 1);
    let text = refusal(dir.path(), Split::Train);
    assert_has(&text, &["its sub-folder cat holds images, but is none of its splits (train)", "move it away"]);
}

#[test]
fn pictures_of_other_formats_are_refused_wherever_they_are() {
    for place in ["", "train/", "train/cat/"] {
        let dir = tempdir().unwrap();
        png(dir.path().join(format!("{place}a.png")), 0);
        (0..30).for_each(|i| write(dir.path().join(format!("{place}{i}.BMP")), "BM"));
        let text = refusal(dir.path(), Split::Train);
        let parts = ["30 of its pictures have a format that is not read, such as bmp", "convert them to PNG"];
        assert_has(&text, &parts);
    }
    let dir = tempdir().unwrap();
    (0..30).for_each(|i| write(dir.path().join(format!("{i}.webp")), "RIFF"));
    assert_has(&refusal(dir.path(), Split::Train), &["30 of its pictures", "webp"]);
}

#[test]
fn images_that_are_too_deep_are_refused_with_the_folder_to_give() {
    let dir = tempdir().unwrap();
    png(dir.path().join("my set/training/0/a.png"), 0);
    let text = refusal(dir.path(), Split::Train);
    let better = dir.path().join("my set");
    let quoted = format!("give a folder like '{}'", better.display());
    assert_has(&text, &["its images are too deep, like my set/training/0/a.png", &quoted]);
    assert_eq!(values(&read(&better, Split::Train)), [0]);
}

#[test]
fn what_is_left_out_is_said() {
    let dir = tempdir().unwrap();
    (0..3).for_each(|i| png(dir.path().join(format!("train/cat/{i}.png")), i));
    png(dir.path().join("test/1.png"), 9);
    for name in ["train/cat/notes.txt", "train/b.TXT", "readme", "train/cat/.hidden.png", ".DS_Store"] {
        write(dir.path().join(name), "text");
    }
    std::fs::create_dir_all(dir.path().join("train/dog")).unwrap();
    std::fs::create_dir_all(dir.path().join("scripts")).unwrap();
    let images = read(dir.path(), Split::Train);
    assert_eq!(values(&images), [0, 1, 2]);
    let found = "4 images of 4x4x1 in 1 class (cat), in the splits 3 train (folder train), 1 test (folder test, without \
                 labels); valid is a part of train, by a hash of the names";
    let left_out = "left out: 1 file without an ending, 2 folders without images, 2 hidden files, 2 txt files";
    assert_eq!(notices(&images), [found, left_out]);
}

#[test]
fn a_folder_without_splits_says_how_it_is_divided() {
    let dir = tempdir().unwrap();
    (0..200).for_each(|i| png(dir.path().join(format!("{i}.png")), i));
    let counts = [Split::Train, Split::Valid, Split::Test].map(|split| read(dir.path(), split).len());
    let [train, valid, test] = counts;
    assert_eq!(counts.iter().sum::<usize>(), 200);
    let found = format!(
        "200 images of 4x4x1 without classes, divided by a hash of their names into {train} train, {valid} valid, {test} \
         test"
    );
    assert_eq!(notices(&read(dir.path(), Split::Test)), [found]);
}

#[test]
fn every_split_has_the_channels_of_the_whole_folder() {
    let dir = tempdir().unwrap();
    png(dir.path().join("train/a.png"), 7);
    image::RgbImage::from_pixel(4, 4, image::Rgb([1, 2, 3])).save(dir.path().join("train/b.png")).unwrap();
    png(dir.path().join("test/a.png"), 8);
    assert_eq!(read(dir.path(), Split::Train).channels(), 3);
    let test = read(dir.path(), Split::Test);
    assert_eq!((test.channels(), test.image(0)), (3, &[8; 48][..]));
}
