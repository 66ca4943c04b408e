//! The sound files of each parser, and how they are mutated.
//!
//! Formats with checksums or lengths in front are mutated in two ways: as bytes, and inside, so that the
//! checksums and lengths are right again. Otherwise nearly all inputs would fail at the first check.

use super::bytes::{self, Random};
use super::parsers::{PARSERS, Verdict};
use super::{Subject, text};
use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ExtendedColorType, ImageFormat};
use pixtape::config::preset;
use pixtape::shape::Shape;
use pixtape::store::{Checkpoint, Tensor};
use safetensors::{Dtype, tensor::TensorView};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Write};

type Mutate = fn(&mut Random, &[Vec<u8>]) -> Vec<u8>;

fn subject(name: &'static str, seeds: Vec<Vec<u8>>, mutate: Mutate, most_mib: usize) -> Subject {
    let (_, parse) = PARSERS.iter().find(|(parser, _)| *parser == name).expect("the parser is in the list");
    let parse: fn(&[u8]) -> Verdict = *parse;
    Subject { name, parse, seeds, mutate, most_mib }
}

/// Values that look like pixels, the same in every run.
fn pixels(count: usize) -> Vec<u8> {
    let mut random = Random::new("pixels", 0, 0);
    (0..count).map(|_| random.byte()).collect()
}

fn idx_file(magic: u32, sizes: &[u32]) -> Vec<u8> {
    let numbers = [magic].into_iter().chain(sizes.iter().copied());
    let header: Vec<u8> = numbers.flat_map(u32::to_be_bytes).collect();
    [header, pixels(sizes.iter().product::<u32>() as usize)].concat()
}

fn idx_files() -> Vec<Vec<u8>> {
    vec![idx_file(2051, &[3, 4, 5]), idx_file(2051, &[1, 1, 1]), idx_file(2051, &[2, 8, 8]), idx_file(2049, &[9])]
}

fn amat_files() -> Vec<Vec<u8>> {
    let line = |bits: &[u8]| bits.iter().map(|bit| (bit & 1).to_string()).collect::<Vec<_>>().join(" ") + "\n";
    let file = |side: usize, count| pixels(side * side * count).chunks(side * side).map(line).collect::<String>();
    vec![file(2, 3).into_bytes(), file(4, 4).into_bytes(), file(1, 1).replace('\n', "\r\n").into_bytes()]
}

pub fn idx() -> Subject {
    subject("idx", idx_files(), bytes::mutate, 4)
}

pub fn cifar() -> Subject {
    let record = |label: u8| [vec![label], pixels(3072)].concat();
    subject("cifar", vec![record(0), [record(9), record(3)].concat()], bytes::mutate, 4)
}

pub fn amat() -> Subject {
    subject("amat", amat_files(), text::mutate, 4)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn unpacked_files() -> Vec<Vec<u8>> {
    [idx_files(), amat_files()].concat()
}

pub fn gz() -> Subject {
    fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut packed = bytes::mutate(random, seeds);
        // The trailer has the checksum and the length of the unpacked data.
        if random.one_in(2) && packed.len() > 18 {
            let mut unpacked = vec![];
            let body = &packed[10..packed.len() - 8];
            let mut decoder = std::io::Read::take(flate2::read::DeflateDecoder::new(body), 1 << 16);
            if std::io::Read::read_to_end(&mut decoder, &mut unpacked).is_ok() {
                let mut crc = flate2::Crc::new();
                crc.update(&unpacked);
                let end = packed.len() - 8;
                packed[end..end + 4].copy_from_slice(&crc.sum().to_le_bytes());
                packed[end + 4..].copy_from_slice(&(unpacked.len() as u32).to_le_bytes());
            }
        }
        packed
    }
    let unpacked = unpacked_files();
    let mut seeds: Vec<Vec<u8>> = unpacked.iter().map(|file| gzip(file)).collect();
    // Two members, and a repetition that unpacks to much more than it has bytes.
    seeds.push([gzip(&unpacked[0][..9]), gzip(&unpacked[0][9..])].concat());
    seeds.push(gzip(
        &idx_file(2051, &[300, 28, 28])
            .iter()
            .enumerate()
            .map(|(i, byte)| if i < 16 { *byte } else { 0 })
            .collect::<Vec<_>>(),
    ));
    subject("gz", seeds, mutate, 8)
}

pub fn xz() -> Subject {
    fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut packed = bytes::mutate(random, seeds);
        // The stream header has its flags at 6 and their checksum at 8. The block header at 12 begins with
        // its length in words, and ends with its checksum.
        if random.one_in(2) && packed.len() > 16 {
            repair(&mut packed, 6..8);
            let words = usize::from(packed[12]);
            if packed.len() >= 12 + 4 * (words + 1) {
                repair(&mut packed, 12..12 + 4 * words);
            }
        }
        packed
    }
    fn repair(packed: &mut [u8], of: std::ops::Range<usize>) {
        let mut crc = flate2::Crc::new();
        crc.update(&packed[of.clone()]);
        packed[of.end..of.end + 4].copy_from_slice(&crc.sum().to_le_bytes());
    }
    let pack = |bytes: &Vec<u8>| {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    subject("xz", unpacked_files().iter().map(pack).collect(), mutate, 8)
}

/// The most memory for a picture, in MiB: the decoder's limit of 256, and a picture of 4096 x 4096.
const PICTURE_MIB: usize = 320;

/// The chunks of a PNG file with their lengths and checksums set right.
fn sound_chunks(png: &mut [u8]) {
    const SIGNATURE: usize = 8;
    let mut at = SIGNATURE;
    while at + 12 <= png.len() {
        let room = png.len() - at - 12;
        let claimed = u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes")) as usize;
        let len = claimed.min(room);
        png[at..at + 4].copy_from_slice(&(len as u32).to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(&png[at + 4..at + 8 + len]);
        png[at + 8 + len..at + 12 + len].copy_from_slice(&crc.sum().to_be_bytes());
        at += 12 + len;
    }
}

pub fn png() -> Subject {
    fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut png = bytes::mutate(random, seeds);
        if !random.one_in(4) {
            sound_chunks(&mut png);
        }
        png
    }
    let rgb = image::RgbImage::from_raw(5, 7, pixels(105)).expect("the length fits");
    let picture = DynamicImage::from(rgb);
    let kinds = [
        picture.clone(),
        DynamicImage::from(picture.to_luma8()),
        DynamicImage::from(picture.to_luma_alpha8()),
        DynamicImage::from(picture.to_rgba8()),
        DynamicImage::from(picture.to_luma16()),
        DynamicImage::from(picture.to_rgb16()),
    ];
    let encode = |picture: &DynamicImage| {
        let mut file = Cursor::new(vec![]);
        picture.write_to(&mut file, ImageFormat::Png).unwrap();
        file.into_inner()
    };
    let mut seeds: Vec<Vec<u8>> = kinds.iter().map(encode).collect();
    seeds.push(include_bytes!("seeds/palette.png").to_vec());
    seeds.push(include_bytes!("seeds/bits.png").to_vec());
    subject("png", seeds, mutate, PICTURE_MIB)
}

pub fn jpeg() -> Subject {
    let encode = |pixels: &[u8], color| {
        let mut file = vec![];
        JpegEncoder::new_with_quality(&mut file, 80).encode(pixels, 9, 7, color).unwrap();
        file
    };
    let seeds = vec![
        encode(&pixels(63), ExtendedColorType::L8),
        encode(&pixels(189), ExtendedColorType::Rgb8),
        include_bytes!("seeds/progressive.jpg").to_vec(),
        include_bytes!("seeds/baseline.jpg").to_vec(),
    ];
    subject("jpeg", seeds, bytes::mutate, PICTURE_MIB)
}

/// A safetensors file whose header is mutated as text, and then gets its right length; or one whose bytes
/// are mutated.
fn mutate_safetensors(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    if random.one_in(3) {
        return bytes::mutate(random, seeds);
    }
    let file = random.pick(seeds);
    let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
    let (header, data) = file[8..].split_at(length);
    let header = text::mutate(random, &[header.to_vec()]);
    [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()
}

pub fn checkpoint() -> Subject {
    let tensor = |shape: &[usize]| {
        let shape = Shape::new(shape);
        Tensor::new(shape, (0..shape.len()).map(|i| i as f32 - 1.5).collect())
    };
    let checkpoint = |tensors: &[(&str, &[usize])]| Checkpoint {
        tensors: tensors.iter().map(|(name, shape)| (name.to_string(), tensor(shape))).collect(),
        config: "network = \"vae-mlp\"\n".into(),
        step: 12,
        rng: r#"{"seed":1,"replay":12}"#.into(),
        data_cursor: r#"{"epoch":0,"dealt":96}"#.into(),
        ..Checkpoint::default()
    };
    let small = checkpoint(&[("params/a", &[2, 3]), ("optim/m/a", &[2, 3]), ("ema/a", &[2, 3]), ("state/s", &[1])]);
    let seeds =
        vec![small.to_bytes(), checkpoint(&[("params/b", &[1, 2, 1, 2])]).to_bytes(), checkpoint(&[]).to_bytes()];
    subject("checkpoint", seeds, mutate_safetensors, 4)
}

pub fn cases() -> Subject {
    let file = |op: &str, attrs: &str, tensors: &[(&str, &[usize])]| {
        let data = |shape: &[usize]| vec![0; 4 * shape.iter().product::<usize>()];
        let all: BTreeMap<String, (Vec<usize>, Vec<u8>)> =
            tensors.iter().map(|(name, shape)| (format!("a/{name}"), (shape.to_vec(), data(shape)))).collect();
        let views = all
            .iter()
            .map(|(name, (shape, data))| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), data).unwrap()));
        let list = format!(r#"[{{"name":"a","op":"{op}","attrs":{attrs},"tol":1e-5,"grad_tol":1e-4}}]"#);
        let metadata = [("format", "pixtape-cases"), ("version", "1"), ("cases", &list)];
        let metadata: HashMap<String, String> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        safetensors::serialize(views, Some(metadata)).unwrap()
    };
    let linear: [(&str, &[usize]); 8] = [
        ("in/x", &[1, 2]),
        ("in/weight", &[3, 2]),
        ("in/bias", &[3]),
        ("out/y", &[1, 3]),
        ("cot/y", &[1, 3]),
        ("grad/x", &[1, 2]),
        ("grad/weight", &[3, 2]),
        ("grad/bias", &[3]),
    ];
    let conv: [(&str, &[usize]); 6] = [
        ("in/x", &[1, 2, 4, 4]),
        ("in/weight", &[3, 2, 3, 3]),
        ("out/y", &[1, 3, 4, 4]),
        ("cot/y", &[1, 3, 4, 4]),
        ("grad/x", &[1, 2, 4, 4]),
        ("grad/weight", &[3, 2, 3, 3]),
    ];
    let matmul: [(&str, &[usize]); 6] = [
        ("in/a", &[2, 3]),
        ("in/b", &[2, 4]),
        ("out/y", &[3, 4]),
        ("cot/y", &[3, 4]),
        ("grad/a", &[2, 3]),
        ("grad/b", &[2, 4]),
    ];
    let seeds = vec![
        file("linear", "{}", &linear),
        file("conv2d", r#"{"stride":1,"padding":[1,1],"mask":"none"}"#, &conv),
        file("matmul", r#"{"transpose_a":true}"#, &matmul),
    ];
    subject("cases", seeds, mutate_safetensors, 8)
}

pub fn config() -> Subject {
    let presets = ["vae-mnist", "gated-pixelcnn-mnist", "lstm-pendulum", "dcgan-cifar", "superres-cifar"];
    let mut seeds: Vec<Vec<u8>> = presets.iter().map(|name| preset(name).unwrap().to_toml().into_bytes()).collect();
    seeds.push(b"network = \"vae-mlp\"\ndata = \"glyphs\"\nsteps = 2\n[model]\nhidden = 8\nlatent = 3\n".to_vec());
    subject("config", seeds, text::mutate, 8)
}

pub fn metrics() -> Subject {
    let line = |step: u32| {
        format!(
            "{{\"step\":{step},\"seconds\":0.25,\"images_per_s\":1234.5,\"learning_rate\":0.001,\"loss\":98.1,\
             \"kl\":null}}\n"
        )
    };
    let seeds = vec![line(1).into_bytes(), [1, 10, 20].map(line).concat().into_bytes(), b"{\"step\":1}".to_vec()];
    subject("metrics", seeds, text::mutate, 8)
}

pub fn kernel_cache() -> Subject {
    fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut file = bytes::mutate(random, seeds);
        if random.one_in(4) && file.len() > 32 {
            let hash = Sha256::digest(&file[32..]);
            file[..32].copy_from_slice(&hash);
        }
        file
    }
    let file = |image: &[u8]| [&Sha256::digest(image)[..], image].concat();
    subject("kernel_cache", vec![file(b"\x7fELF machine code"), file(&pixels(200))], mutate, 1)
}
