//! One body per parser. Each takes any bytes, and asserts what must hold for whatever the parser accepts.
//! The fuzz target of the folder `fuzz` includes this file.

use pixtape::config::Config;
use pixtape::data::{
    AmatImages, CifarImages, IdxImages, Source, decode_image, read_amat, read_cifar, read_idx_images, read_idx_labels,
};
use std::path::Path;

/// Whether the bytes are accepted, or the message with which they are refused.
pub type Verdict = Result<(), String>;

/// A parser by its name.
pub type Parser = (&'static str, fn(&[u8]) -> Verdict);

/// All parsers.
pub const PARSERS: &[Parser] = &[
    ("idx", idx),
    ("cifar", cifar),
    ("amat", amat),
    ("gz", packed),
    ("xz", packed),
    ("png", image),
    ("jpeg", image),
    ("checkpoint", pixtape::store::fuzz_parse),
    ("cases", pixtape::check::reference::fuzz_parse),
    ("config", config),
    ("metrics", pixtape::store::fuzz_metrics),
    ("kernel_cache", pixtape::backend::cuda::kernels::fuzz_cached),
];

fn source(bytes: &[u8]) -> Result<Source, String> {
    Source::from_bytes(bytes.to_vec(), "file").map_err(|error| error.to_string())
}

/// idx images or labels: whatever is accepted has the sizes that it claims.
fn idx(bytes: &[u8]) -> Verdict {
    let images = read_idx_images(&mut source(bytes)?);
    if let Ok(IdxImages { height, width, pixels }) = &images {
        assert!(!pixels.is_empty() && pixels.len().is_multiple_of(height * width));
    }
    let labels = read_idx_labels(&mut source(bytes)?);
    if let Ok(labels) = &labels {
        assert!(!labels.is_empty() && images.is_err());
        return Ok(());
    }
    images.map(drop).map_err(|error| error.to_string())
}

/// CIFAR-10 records: whatever is accepted is whole records with labels 0 to 9.
fn cifar(bytes: &[u8]) -> Verdict {
    let CifarImages { pixels, labels } = read_cifar(&mut source(bytes)?).map_err(|error| error.to_string())?;
    assert!(!labels.is_empty() && pixels.len() == labels.len() * 3072 && labels.iter().all(|&label| label < 10));
    Ok(())
}

/// amat text: whatever is accepted is square images of zeros and ones.
fn amat(bytes: &[u8]) -> Verdict {
    let AmatImages { side, pixels } = read_amat(&mut source(bytes)?).map_err(|error| error.to_string())?;
    assert!(!pixels.is_empty() && pixels.len().is_multiple_of(side * side) && pixels.iter().all(|&bit| bit < 2));
    Ok(())
}

/// A compressed file of idx images or of amat text.
fn packed(bytes: &[u8]) -> Verdict {
    idx(bytes).or_else(|_| amat(bytes))
}

/// A PNG or JPEG file: decoding ends in an image within the limits, or in an error.
fn image(bytes: &[u8]) -> Verdict {
    let image = decode_image(bytes, Path::new("file")).map_err(|error| error.to_string())?;
    assert!((1..=4096).contains(&image.width()) && (1..=4096).contains(&image.height()));
    Ok(())
}

/// A configuration: whatever is accepted is valid, and survives being written and read again.
fn config(bytes: &[u8]) -> Verdict {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_string())?;
    let read = |text: &str| Config::from_toml(text, Path::new("file")).map_err(|error| error.to_string());
    let config = read(text)?;
    config.validate().expect("what is accepted is valid");
    let written = config.to_toml();
    assert_eq!(read(&written).expect("what is written can be read").to_toml(), written);
    Ok(())
}
