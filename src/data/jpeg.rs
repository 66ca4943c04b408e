//! Checks that a JPEG file is whole, down to its last block.
//!
//! The decoder of the crate `image` is lenient: it fills what is missing or unreadable with grey. [`check`]
//! walks through the entropy-coded data (ITU-T T.81, Huffman coding, sequential and progressive) without
//! computing pixels. Every scan must have exactly the blocks that its header announces, followed by a
//! marker, and the file must have its end-of-image marker. Overwritten bytes are found if they change the
//! number of blocks, give an invalid code, or leave the structure in another way. Bytes that only change the
//! value of coefficients or of quantisation tables cannot be found: JPEG has no checksum.

use super::decode::MAX_SIDE;

/// What a sound file holds besides its image.
pub(super) struct Sound {
    /// Bytes after the end of the image.
    pub(super) trailing: usize,
    /// Components of a pixel: 1 for grey, 3 for colour, 4 for CMYK.
    pub(super) components: usize,
}

/// The largest number of bits of a coefficient with 8 bits per value.
const MAX_COEFFICIENT_BITS: u8 = 11;

const BLOCK: usize = 64;

/// Checks the whole file. An error is the reason, as the rest of a sentence about the file.
pub(super) fn check(bytes: &[u8]) -> Result<Sound, String> {
    if bytes.len() < 2 || bytes[..2] != [0xff, 0xd8] {
        return Err("it does not begin with the marker of a JPEG file".to_string());
    }
    let mut file = File { bytes, at: 2, frame: None, tables: Default::default(), restart_interval: 0 };
    loop {
        match file.marker()? {
            0xd9 => return file.finish(),
            0xc0..=0xc2 => file.read_frame()?,
            0xc4 => file.read_tables()?,
            0xda => file.read_scan()?,
            0xdd => {
                let segment = file.segment()?;
                file.restart_interval = usize::from(word(segment, 0)?);
            }
            0xc3 | 0xc5..=0xcf => return Err("it uses a form of JPEG that is not read (lossless or arithmetic)".into()),
            0x01 => {}
            0xdb | 0xe0..=0xef | 0xfe => _ = file.segment()?,
            marker => {
                return Err(format!("it has the marker {marker:#04x} in an impossible place (byte {})", file.at - 2));
            }
        }
    }
}

/// A Huffman table: for each length of a code, the first code above all of this length, and where the value
/// of a code is found.
#[derive(Default)]
struct Table {
    /// One more than the last code of each length, or 0 if there is none.
    above: [u32; 17],
    /// Index of a value minus its code, for each length.
    offset: [i32; 17],
    values: Vec<u8>,
}

struct Component {
    id: u8,
    horizontal: usize,
    vertical: usize,
    /// Blocks that hold pixels, and blocks per row including the padding to whole units.
    columns: usize,
    rows: usize,
    stride: usize,
    /// For each block, which of its coefficients are not zero yet. Only progressive scans need it.
    nonzero: Vec<u64>,
    /// For each coefficient, how many of its lowest bits no scan has given yet.
    missing_bits: [u8; BLOCK],
}

struct Frame {
    progressive: bool,
    components: Vec<Component>,
    /// Units of an interleaved scan per row, and rows of them.
    units: [usize; 2],
}

struct File<'a> {
    bytes: &'a [u8],
    at: usize,
    frame: Option<Frame>,
    /// Tables of the DC coefficients, then those of the AC coefficients.
    tables: [[Option<Table>; 4]; 2],
    /// Units between two restart markers; 0 without restart markers.
    restart_interval: usize,
}

/// The parameters of a scan: the range of coefficients, and the bits of precision before and after it.
#[derive(Clone, Copy)]
struct Band {
    first: usize,
    last: usize,
    /// Whether it adds one more bit to coefficients of earlier scans.
    refines: bool,
}

fn truncated() -> String {
    "it is truncated: its end-of-image marker is missing".to_string()
}

fn word(bytes: &[u8], at: usize) -> Result<u16, String> {
    bytes.get(at..at + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).ok_or_else(short_segment)
}

fn short_segment() -> String {
    "one of its segments is too short".to_string()
}

impl<'a> File<'a> {
    /// Reads the marker that must follow here.
    fn marker(&mut self) -> Result<u8, String> {
        if *self.bytes.get(self.at).ok_or_else(truncated)? != 0xff {
            return Err(format!("it has bytes that belong to nothing (at byte {})", self.at));
        }
        // Any number of 0xff may precede a marker.
        while *self.bytes.get(self.at).ok_or_else(truncated)? == 0xff {
            self.at += 1;
        }
        self.at += 1;
        Ok(self.bytes[self.at - 1])
    }

    /// Reads the segment after a marker.
    fn segment(&mut self) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let length = usize::from(word(rest, 0).map_err(|_| truncated())?);
        let segment = rest.get(2..length).ok_or_else(|| if length < 2 { short_segment() } else { truncated() })?;
        self.at += length;
        Ok(segment)
    }

    fn read_frame(&mut self) -> Result<(), String> {
        let progressive = self.bytes[self.at - 1] == 0xc2;
        let segment = self.segment()?;
        let (height, width) = (usize::from(word(segment, 1)?), usize::from(word(segment, 3)?));
        if self.frame.is_some() {
            return Err("it has two frames".to_string());
        }
        let count = usize::from(*segment.get(5).ok_or_else(short_segment)?);
        if segment.len() != 6 + 3 * count || !(1..=4).contains(&count) || height == 0 || width == 0 {
            return Err("its frame header is damaged".to_string());
        }
        if segment[0] != 8 {
            return Err(format!("it has {} bits per value, and 8 are read", segment[0]));
        }
        // The header has been checked before; this keeps the memory of this check small in any case.
        if height.max(width) > MAX_SIDE as usize {
            return Err(format!("it is larger than {MAX_SIDE} x {MAX_SIDE} pixels"));
        }
        let described = segment[6..].as_chunks::<3>().0;
        let factors = |part: &[u8; 3]| [usize::from(part[1] >> 4), usize::from(part[1] & 15)];
        if described.iter().flat_map(factors).any(|factor| !(1..=4).contains(&factor)) {
            return Err("its frame header is damaged".to_string());
        }
        let most = |axis: usize| described.iter().map(|part| factors(part)[axis]).max().unwrap_or(1);
        let (across, down) = (most(0), most(1));
        let units = [width.div_ceil(8 * across), height.div_ceil(8 * down)];
        let components = described.iter().map(|part| {
            let [horizontal, vertical] = factors(part);
            let stride = units[0] * horizontal;
            Component {
                id: part[0],
                horizontal,
                vertical,
                columns: (width * horizontal).div_ceil(8 * across),
                rows: (height * vertical).div_ceil(8 * down),
                stride,
                nonzero: if progressive { vec![0; stride * units[1] * vertical] } else { vec![] },
                missing_bits: [u8::MAX; BLOCK],
            }
        });
        self.frame = Some(Frame { progressive, components: components.collect(), units });
        Ok(())
    }

    fn read_tables(&mut self) -> Result<(), String> {
        let damaged = || "one of its Huffman tables is damaged".to_string();
        let mut rest = self.segment()?;
        while let Some((&kind, after)) = rest.split_first() {
            let (counts, values) = after.split_at_checked(16).ok_or_else(damaged)?;
            let (class, slot) = (usize::from(kind >> 4), usize::from(kind & 15));
            let total: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let (values, after) = values.split_at_checked(total).ok_or_else(damaged)?;
            if class > 1 || slot > 3 || total > 256 {
                return Err(damaged());
            }
            let mut table = Table { values: values.to_vec(), ..Table::default() };
            let (mut code, mut index) = (0_u32, 0_i32);
            for (length, &count) in (1..).zip(counts) {
                table.offset[length] = index - code as i32;
                code += u32::from(count);
                index += i32::from(count);
                table.above[length] = if count == 0 { 0 } else { code };
                if code > 1 << length {
                    return Err(damaged());
                }
                code <<= 1;
            }
            self.tables[class][slot] = Some(table);
            rest = after;
        }
        Ok(())
    }

    fn read_scan(&mut self) -> Result<(), String> {
        let damaged = || "the header of a scan is damaged".to_string();
        let header = self.segment()?;
        let frame = self.frame.as_mut().ok_or("it has a scan before its frame header")?;
        let count = usize::from(*header.first().ok_or_else(damaged)?);
        if header.len() != 4 + 2 * count || !(1..=4).contains(&count) {
            return Err(damaged());
        }
        let [first, last, bits] = [1, 2, 3].map(|i| header[2 * count + i]);
        let band = Band { first: first.into(), last: last.into(), refines: frame.progressive && bits >> 4 > 0 };
        let is_band = if frame.progressive {
            (first == 0 && last == 0) || (first > 0 && first <= last && last < 64 && count == 1)
        } else {
            // Some encoders write other values here, which no decoder of sequential files looks at.
            true
        };
        if !is_band {
            return Err(damaged());
        }
        let mut parts: Vec<(usize, Option<&Table>, Option<&Table>)> = Vec::new();
        for selector in header[1..=2 * count].as_chunks::<2>().0 {
            let place =
                frame.components.iter().position(|component| component.id == selector[0]).ok_or_else(damaged)?;
            let table = |class: usize, slot: u8| self.tables[class].get(usize::from(slot)).and_then(Option::as_ref);
            let (dc, ac) = (table(0, selector[1] >> 4), table(1, selector[1] & 15));
            let needs_dc = !frame.progressive || (band.first == 0 && !band.refines);
            let needs_ac = !frame.progressive || band.first > 0;
            if (needs_dc && dc.is_none()) || (needs_ac && ac.is_none()) {
                return Err("a scan uses a Huffman table that is missing".to_string());
            }
            if parts.iter().any(|(other, ..)| *other == place) {
                return Err(damaged());
            }
            parts.push((place, dc, ac));
        }
        let mut coded = Coded { bytes: self.bytes, at: self.at, buffer: 0, filled: 0, run: 0 };
        // A scan of one component is not padded to whole units.
        let alone = (count == 1).then(|| &frame.components[parts[0].0]);
        let [across, down] = alone.map_or(frame.units, |component| [component.columns, component.rows]);
        let is_alone = alone.is_some();
        for unit in 0..across * down {
            if self.restart_interval > 0 && unit > 0 && unit.is_multiple_of(self.restart_interval) {
                coded.restart((unit / self.restart_interval - 1) % 8)?;
            }
            let (column, row) = (unit % across, unit / across);
            for &(place, dc, ac) in &parts {
                let component = &mut frame.components[place];
                let [horizontal, vertical] = if is_alone { [1, 1] } else { [component.horizontal, component.vertical] };
                for block in 0..horizontal * vertical {
                    let (x, y) = (column * horizontal + block % horizontal, row * vertical + block / horizontal);
                    if frame.progressive {
                        let nonzero = &mut component.nonzero[y * component.stride + x];
                        coded.progressive_block(band, dc, ac, nonzero)?;
                    } else {
                        coded.sequential_block(dc, ac)?;
                    }
                }
            }
        }
        self.at = coded.finish()?;
        for (place, ..) in parts {
            let missing_bits = &mut frame.components[place].missing_bits;
            if frame.progressive {
                missing_bits[band.first..=band.last].fill(bits & 15);
            } else {
                missing_bits.fill(0);
            }
        }
        Ok(())
    }

    /// Checks that there was an image, at the end-of-image marker.
    fn finish(self) -> Result<Sound, String> {
        let frame = self.frame.ok_or("it has no frame header")?;
        if frame.components.iter().flat_map(|component| component.missing_bits).any(|bits| bits > 0) {
            return Err("it is incomplete: some of its scans are missing".to_string());
        }
        Ok(Sound { trailing: self.bytes.len() - self.at, components: frame.components.len() })
    }
}

/// The entropy-coded data of a scan as a stream of bits.
struct Coded<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, in the lowest `filled` bits.
    buffer: u64,
    filled: u32,
    /// Blocks without further coefficients in this band that still follow (progressive scans).
    run: u32,
}

impl Coded<'_> {
    fn fill(&mut self, bits: u32) -> Result<(), String> {
        while self.filled < bits {
            let byte = *self.bytes.get(self.at).ok_or_else(truncated)?;
            if byte == 0xff {
                match self.bytes.get(self.at + 1) {
                    None => return Err(truncated()),
                    Some(0) => self.at += 1,
                    Some(_) => return Err(format!("its compressed data end too early (at byte {})", self.at)),
                }
            }
            self.at += 1;
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.filled += 8;
        }
        Ok(())
    }

    /// Reads at most 16 bits.
    fn bits(&mut self, count: u8) -> Result<u32, String> {
        let count = u32::from(count);
        self.fill(count)?;
        self.filled -= count;
        Ok((self.buffer >> self.filled) as u32 & ((1 << count) - 1))
    }

    fn symbol(&mut self, table: Option<&Table>) -> Result<u8, String> {
        let table = table.expect("read_scan has checked that the table exists");
        let mut code = 0;
        for length in 1..=16 {
            code = code << 1 | self.bits(1)?;
            if code < table.above[length] {
                return Ok(table.values[(code as i32 + table.offset[length]) as usize]);
            }
        }
        Err(self.corrupt())
    }

    fn corrupt(&self) -> String {
        format!("its compressed data are corrupt (near byte {})", self.at)
    }

    /// Skips the bits of a coefficient.
    fn skip_value(&mut self, bits: u8) -> Result<(), String> {
        if bits > MAX_COEFFICIENT_BITS {
            return Err(self.corrupt());
        }
        self.bits(bits).map(|_| ())
    }

    fn sequential_block(&mut self, dc: Option<&Table>, ac: Option<&Table>) -> Result<(), String> {
        let bits = self.symbol(dc)?;
        self.skip_value(bits)?;
        let mut at = 1;
        while at < BLOCK {
            let symbol = self.symbol(ac)?;
            let (zeros, bits) = (usize::from(symbol >> 4), symbol & 15);
            match (zeros, bits) {
                (0, 0) => break,
                (15, 0) => at += 16,
                (_, 0) => return Err(self.corrupt()),
                _ => {
                    at += zeros + 1;
                    self.skip_value(bits)?;
                }
            }
            if at > BLOCK {
                return Err(self.corrupt());
            }
        }
        Ok(())
    }

    fn progressive_block(
        &mut self,
        band: Band,
        dc: Option<&Table>,
        ac: Option<&Table>,
        nonzero: &mut u64,
    ) -> Result<(), String> {
        match (band.first, band.refines) {
            (0, false) => {
                let bits = self.symbol(dc)?;
                self.skip_value(bits)
            }
            (0, true) => self.bits(1).map(|_| ()),
            (_, false) => self.first_bits(band, ac, nonzero),
            (_, true) => self.refining_bits(band, ac, nonzero),
        }
    }

    /// The first bits of the AC coefficients of a band (T.81, G.1.2.2).
    fn first_bits(&mut self, band: Band, ac: Option<&Table>, nonzero: &mut u64) -> Result<(), String> {
        if self.run > 0 {
            self.run -= 1;
            return Ok(());
        }
        let mut at = band.first;
        while at <= band.last {
            let symbol = self.symbol(ac)?;
            let (zeros, bits) = (symbol >> 4, symbol & 15);
            if bits == 0 && zeros < 15 {
                self.run = (1 << zeros) - 1 + self.bits(zeros)?;
                break;
            }
            at += usize::from(zeros);
            if bits > 0 {
                if at > band.last {
                    return Err(self.corrupt());
                }
                self.skip_value(bits)?;
                *nonzero |= 1 << at;
            }
            at += 1;
        }
        if at > band.last + 1 { Err(self.corrupt()) } else { Ok(()) }
    }

    /// One more bit of the AC coefficients of a band (T.81, G.1.2.3).
    fn refining_bits(&mut self, band: Band, ac: Option<&Table>, nonzero: &mut u64) -> Result<(), String> {
        let mut at = band.first;
        if self.run == 0 {
            while at <= band.last {
                let symbol = self.symbol(ac)?;
                let (mut zeros, bits) = (symbol >> 4, symbol & 15);
                match bits {
                    0 if zeros < 15 => {
                        // This block counts, too.
                        self.run = (1 << zeros) + self.bits(zeros)?;
                        break;
                    }
                    0 => {}
                    1 => _ = self.bits(1)?,
                    _ => return Err(self.corrupt()),
                }
                // Each coefficient that is not zero already has one bit of its own on the way.
                while at <= band.last {
                    if *nonzero & 1 << at != 0 {
                        self.bits(1)?;
                    } else if zeros == 0 {
                        break;
                    } else {
                        zeros -= 1;
                    }
                    at += 1;
                }
                if bits == 1 {
                    if at > band.last {
                        return Err(self.corrupt());
                    }
                    *nonzero |= 1 << at;
                }
                at += 1;
            }
        }
        if self.run > 0 {
            for at in at..=band.last {
                if *nonzero & 1 << at != 0 {
                    self.bits(1)?;
                }
            }
            self.run -= 1;
        }
        Ok(())
    }

    /// Goes to the marker that must follow, and returns its place.
    fn finish(&mut self) -> Result<usize, String> {
        // Only the rest of the last byte is padding: ones, or zeros by some encoders.
        let (padding, ones) = (self.buffer & ((1 << self.filled) - 1), (1 << self.filled) - 1);
        if self.run > 0 || (padding != ones && padding != 0) {
            return Err(self.corrupt());
        }
        match self.bytes.get(self.at..self.at + 2) {
            Some([0xff, marker]) if *marker > 0 => Ok(self.at),
            Some(_) => Err(format!("more compressed data follow after its last block (at byte {})", self.at)),
            None => Err(truncated()),
        }
    }

    /// Goes on after the restart marker of this number, which must follow.
    fn restart(&mut self, number: usize) -> Result<(), String> {
        let mut at = self.finish()?;
        while self.bytes.get(at + 1) == Some(&0xff) {
            at += 1;
        }
        if self.bytes.get(at + 1).is_none_or(|&marker| usize::from(marker) != 0xd0 + number) {
            return Err(format!("its restart marker {number} is missing (at byte {at})"));
        }
        (self.at, self.buffer, self.filled) = (at + 2, 0, 0);
        Ok(())
    }
}
