//! `fetch` from a server on this machine: whole, resumed and interrupted downloads, and errors of servers
//! and disks. The tests do not contact the publishers' servers and need no network.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use flate2::{Compression, write::GzEncoder};
use pixtape::data::{Counts, Fetched, FileFormat, SETS, Served, Set, SetFile, Split, fetch, open};
use pixtape::shape::ImageSize;
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};

/// How the server answers a request for a file that it has.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// It sends the requested range.
    Good,
    /// It sends the whole file, whatever range is requested.
    IgnoresRange,
    /// It announces the rest of the file, sends at most this number of bytes, and closes the connection.
    CutsAfter(usize),
    /// It answers with this error status.
    Status(u16),
}

/// A server of some files. It closes every connection after one answer and logs the path and range of every
/// request.
struct Site {
    url: String,
    log: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    fn new(files: Vec<(String, Vec<u8>)>, manner: Manner) -> Site {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (log, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (worker_log, worker_stop) = (log.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if worker_stop.load(Ordering::SeqCst) {
                    return;
                }
                // A client that refuses the data closes the connection. That is not a failure of the test.
                let _ = serve(stream.unwrap(), &files, manner, &worker_log);
            }
        });
        Site { url, log, stop, thread: Some(thread) }
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn serve(
    mut stream: TcpStream,
    files: &[(String, Vec<u8>)],
    manner: Manner,
    log: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let lines = BufReader::new(stream.try_clone()?).lines();
    let head: Vec<String> = lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
    let path = head[0].split(' ').nth(1).unwrap();
    let range = head.iter().find_map(|line| line.to_lowercase().strip_prefix("range: ").map(String::from));
    log.lock().unwrap().push(format!("{path} {}", range.as_deref().unwrap_or("-")));
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.trim_end_matches('-').parse().ok()).unwrap_or(0);
    let start = if manner == Manner::IgnoresRange { 0 } else { start };
    let found = files.iter().find(|(name, _)| name == path).map(|(_, bytes)| &bytes[..]);
    let (status, bytes) = match (found, manner) {
        (None, _) => (404, &[][..]),
        (_, Manner::Status(code)) => (code, &[][..]),
        (Some(bytes), _) if start > 0 && start >= bytes.len() => (416, &[][..]),
        (Some(bytes), _) => (if start > 0 { 206 } else { 200 }, &bytes[start..]),
    };
    let (length, end) = (bytes.len(), start + bytes.len());
    write!(stream, "HTTP/1.1 {status} S\r\nContent-Length: {length}\r\nConnection: close\r\n")?;
    if status == 206 {
        write!(stream, "Content-Range: bytes {start}-{}/{end}\r\n", end - 1)?;
    }
    write!(stream, "\r\n")?;
    let sent = if let Manner::CutsAfter(count) = manner { count.min(length) } else { length };
    stream.write_all(&bytes[..sent])
}

fn noise(seed: u32, count: u32) -> Vec<u8> {
    (0..count).map(|i| pixtape::rng::threefry2x32([seed, 0], [i, 0])[0] as u8).collect()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A data set of these files, leaked so that it lives as long as the test program.
fn set(files: &[(&'static str, &[u8])], served: Served, mirrors: Vec<&'static str>) -> Set {
    let hex = |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let file =
        |&(name, bytes): &(&'static str, &[u8])| SetFile { name, bytes: bytes.len() as u64, sha256: hex(bytes).leak() };
    Set {
        name: "tiny",
        size: ImageSize { height: 1, width: 1, channels: 1 },
        counts: Counts { train: 1, valid: 0, test: 1 },
        classes: 0,
        format: FileFormat::Idx,
        mirrors: mirrors.leak(),
        served,
        terms: "none",
        files: files.iter().map(file).collect::<Vec<_>>().leak(),
    }
}

/// A data set of one file of 300,000 bytes, a server that has it, an empty data folder, and the bytes of the
/// file.
fn one_file(manner: Manner) -> (Set, Site, TempDir, Vec<u8>) {
    let bytes = noise(1, 300_000);
    let site = Site::new(vec![("/tiny/images".into(), bytes.clone())], manner);
    (set(&[("images", &bytes)], Served::As(""), vec![]), site, tempdir().unwrap(), bytes)
}

fn run(set: &Set, dir: &Path, site: &Site) -> pixtape::Result<Fetched> {
    fetch(set, dir, Some(&site.url), &mut |_| {})
}

fn children(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|child| child.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Writes `bytes` to the file where an interrupted download leaves them.
fn leave_partial(dir: &Path, bytes: &[u8]) {
    fs::create_dir_all(dir.join("tiny")).unwrap();
    fs::write(dir.join("tiny/images.partial"), bytes).unwrap();
}

#[test]
fn a_whole_file_is_checked_put_in_its_place_and_not_fetched_again() {
    let (set, site, dir, bytes) = one_file(Manner::Good);
    let mut seen = Vec::new();
    let fetched = fetch(&set, dir.path(), Some(&site.url), &mut |progress| {
        seen.push((progress.file.to_string(), progress.done, progress.total));
    });
    let path = dir.path().join("tiny/images");
    assert_eq!(fetched.unwrap(), Fetched { new: vec![path.clone()], present: vec![] });
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(children(&dir.path().join("tiny")), ["images"]);
    assert!(seen.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    assert_eq!(seen.last().unwrap(), &("images".to_string(), 300_000, Some(300_000)));
    assert_eq!(run(&set, dir.path(), &site).unwrap(), Fetched { new: vec![], present: vec![path] });
    assert_eq!(site.log(), ["/tiny/images -"]);
}

#[test]
fn what_is_there_is_not_asked_for_again() {
    let (set, site, dir, bytes) = one_file(Manner::Good);
    leave_partial(dir.path(), &bytes[..123_456]);
    run(&set, dir.path(), &site).unwrap();
    assert_eq!(fs::read(dir.path().join("tiny/images")).unwrap(), bytes);
    assert_eq!(site.log(), ["/tiny/images bytes=123456-"]);
}

#[test]
fn a_server_that_ignores_ranges_sends_it_all() {
    let (set, site, dir, bytes) = one_file(Manner::IgnoresRange);
    leave_partial(dir.path(), &bytes[..1000]);
    run(&set, dir.path(), &site).unwrap();
    assert_eq!(fs::read(dir.path().join("tiny/images")).unwrap(), bytes);
}

#[test]
fn a_finished_partial_is_only_checked() {
    let (set, site, dir, bytes) = one_file(Manner::Good);
    leave_partial(dir.path(), &bytes);
    run(&set, dir.path(), &site).unwrap();
    assert_eq!(fs::read(dir.path().join("tiny/images")).unwrap(), bytes);
    assert_eq!(site.log(), ["/tiny/images bytes=300000-"]);
}

#[test]
fn the_beginning_of_another_file_is_thrown_away() {
    for wrong in [noise(2, 1000), noise(2, 300_000), noise(2, 400_000)] {
        let (set, site, dir, bytes) = one_file(Manner::Good);
        leave_partial(dir.path(), &wrong);
        run(&set, dir.path(), &site).unwrap();
        assert_eq!(fs::read(dir.path().join("tiny/images")).unwrap(), bytes);
        assert_eq!(site.log().last().unwrap(), "/tiny/images -");
    }
}

#[test]
fn a_connection_that_is_cut_is_taken_up_again() {
    let (set, site, dir, bytes) = one_file(Manner::CutsAfter(70_000));
    run(&set, dir.path(), &site).unwrap();
    assert_eq!(fs::read(dir.path().join("tiny/images")).unwrap(), bytes);
    let log = site.log();
    assert!(log.len() >= 5 && log[1].starts_with("/tiny/images bytes="), "{log:?}");
}

#[test]
fn a_server_that_sends_nothing_is_given_up_and_what_came_stays() {
    let (set, site, dir, bytes) = one_file(Manner::CutsAfter(0));
    leave_partial(dir.path(), &bytes[..1000]);
    let text = run(&set, dir.path(), &site).unwrap_err().to_string();
    assert!(text.contains("/tiny/images: the connection was cut after 1000 bytes"), "{text}");
    assert!(text.contains("resumes where it stopped"), "{text}");
    assert_eq!(fs::read(dir.path().join("tiny/images.partial")).unwrap(), bytes[..1000]);
}

#[test]
fn statuses_are_named() {
    for (status, requests) in [(404, 1), (403, 1), (503, 3)] {
        let (set, site, dir, _) = one_file(Manner::Status(status));
        let text = run(&set, dir.path(), &site).unwrap_err().to_string();
        assert!(text.contains(&format!("{}/tiny/images: the server answered {status}", site.url)), "{text}");
        assert_eq!((children(&dir.path().join("tiny")), site.log().len()), (vec![], requests));
    }
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let (set, site, dir, _) = one_file(Manner::Good);
    let url = site.url.clone();
    drop(site);
    let text = fetch(&set, dir.path(), Some(&url), &mut |_| {}).unwrap_err().to_string();
    assert!(text.contains(&url) && text.contains("check the network"), "{text}");
}

#[test]
fn a_wrong_checksum_leaves_nothing_behind() {
    let (_, site, dir, bytes) = one_file(Manner::Good);
    let mut other = bytes.clone();
    other[7] ^= 1;
    for wrong in [other, bytes[1..].to_vec(), [&bytes[..], b"more"].concat()] {
        let set = set(&[("images", &wrong)], Served::As(""), vec![]);
        let text = run(&set, dir.path(), &site).unwrap_err().to_string();
        assert!(text.contains("checksum is wrong") || text.contains("not the publisher's"), "{text}");
        assert_eq!(children(&dir.path().join("tiny")), Vec::<String>::new());
    }
}

#[test]
fn a_file_without_end_is_refused() {
    let dir = tempdir().unwrap();
    let site = Site::new(vec![("/tiny/images".into(), vec![0; 3 << 20])], Manner::Good);
    let set = set(&[("images", b"a")], Served::As(""), vec![]);
    let text = run(&set, dir.path(), &site).unwrap_err().to_string();
    assert!(text.contains("the server sent more than"), "{text}");
    assert_eq!(children(&dir.path().join("tiny")), Vec::<String>::new());
}

#[test]
fn compressed_files_are_checked_by_what_is_in_them() {
    let (dir, bytes) = (tempdir().unwrap(), noise(3, 50_000));
    let set = set(&[("images", &bytes)], Served::As(".gz"), vec![]);
    for (served, good) in [(gz(&bytes), true), (gz(&bytes[1..]), false), (gz(&bytes)[..40_000].to_vec(), false)] {
        let site = Site::new(vec![("/tiny/images.gz".into(), served.clone())], Manner::Good);
        let fetched = run(&set, dir.path(), &site);
        assert_eq!(fetched.is_ok(), good, "{fetched:?}");
        let path = dir.path().join("tiny/images.gz");
        if good {
            assert_eq!(fs::read(&path).unwrap(), served);
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn the_second_server_is_asked_where_the_first_has_no_good_file() {
    let bytes = noise(4, 2000);
    let empty = Site::new(vec![], Manner::Good);
    let wrong = Site::new(vec![("/images".into(), noise(5, 2000))], Manner::Good);
    let right = Site::new(vec![("/images".into(), bytes.clone())], Manner::Good);
    let mirrors = [&empty, &wrong, &right].map(|site| -> &'static str { format!("{}/", site.url).leak() });
    let dir = tempdir().unwrap();
    fetch(&set(&[("images", &bytes)], Served::As(""), mirrors.to_vec()), dir.path(), None, &mut |_| {}).unwrap();
    assert_eq!(fs::read(dir.path().join("tiny/images")).unwrap(), bytes);
    let text = fetch(
        &set(&[("images", b"x")], Served::As(""), mirrors[..2].to_vec()),
        tempdir().unwrap().path(),
        None,
        &mut |_| {},
    );
    let text = text.unwrap_err().to_string();
    assert!(text.contains(&empty.url) && text.contains(&wrong.url), "{text}");
}

#[test]
fn a_file_of_the_user_is_never_replaced() {
    let (set, site, dir, bytes) = one_file(Manner::Good);
    let path = dir.path().join("tiny/images");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, &bytes[..500]).unwrap();
    let text = run(&set, dir.path(), &site).unwrap_err().to_string();
    assert!(text.contains("unpacks to 500 bytes") && text.contains("delete or rename it"), "{text}");
    assert_eq!((fs::read(&path).unwrap().len(), site.log().len()), (500, 0));
}

#[test]
fn two_fetches_of_one_file_do_not_mix() {
    let (set, site, dir, _) = one_file(Manner::Good);
    leave_partial(dir.path(), b"");
    let other = fs::File::open(dir.path().join("tiny/images.partial")).unwrap();
    other.lock().unwrap();
    let text = run(&set, dir.path(), &site).unwrap_err().to_string();
    assert!(text.contains("images.partial: another fetch is writing it"), "{text}");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_named() {
    let (set, site, dir, _) = one_file(Manner::Good);
    let file = dir.path().join("file");
    fs::write(&file, "in the way").unwrap();
    let text = run(&set, &file, &site).unwrap_err().to_string();
    assert!(text.contains("file/tiny: could not create it"), "{text}");

    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    let mut permissions = fs::metadata(&locked).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&locked, permissions).unwrap();
    if fs::write(locked.join("probe"), "").is_ok() {
        eprintln!("SKIP the rest of a_folder_that_cannot_be_written_to_is_named: root writes to read-only folders too");
        return;
    }
    let text = run(&set, &locked, &site).unwrap_err().to_string();
    assert!(text.contains("locked/tiny: could not create it") && text.contains("check the permissions"), "{text}");
}

fn tar_gz(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

#[test]
fn an_archive_gives_the_files_that_are_wanted_and_no_others() {
    let (one, two) = (noise(6, 40_000), noise(7, 30_000));
    let set = set(&[("one.bin", &one), ("two.bin", &two)], Served::Tar("all.tar.gz"), vec![]);
    let inside = [("x/readme.html", &b"hi"[..]), ("x/one.bin", &one), ("../../../evil", b"evil"), ("x/two.bin", &two)];
    let archive = tar_gz(&inside);
    let dir = tempdir().unwrap();
    let (data, folder) = (dir.path().join("a/b"), dir.path().join("a/b/tiny"));
    let site = Site::new(vec![("/tiny/all.tar.gz".into(), archive)], Manner::CutsAfter(30_000));
    let fetched = run(&set, &data, &site).unwrap();
    assert_eq!(fetched.new, ["one.bin", "two.bin"].map(|name| folder.join(name)));
    assert_eq!(
        (fs::read(folder.join("one.bin")).unwrap(), fs::read(folder.join("two.bin")).unwrap()),
        (one, two.clone())
    );
    assert_eq!(
        (children(&folder), children(dir.path())),
        (vec!["one.bin".into(), "two.bin".into()], vec!["a".to_string()])
    );

    fs::remove_file(folder.join("one.bin")).unwrap();
    let again = run(&set, &data, &site).unwrap();
    assert_eq!((again.new.len(), again.present.len()), (1, 1));
}

#[test]
fn an_archive_that_is_damaged_lacks_a_file_or_has_a_wrong_one_is_an_error() {
    let (one, two) = (noise(6, 40_000), noise(7, 30_000));
    let set = set(&[("one.bin", &one), ("two.bin", &two)], Served::Tar("all.tar.gz"), vec![]);
    let whole = tar_gz(&[("x/one.bin", &one), ("x/two.bin", &two)]);
    let cases = [
        (tar_gz(&[("x/two.bin", &two)]), "one.bin is not in the archive"),
        (tar_gz(&[("x/two.bin", &one), ("x/one.bin", &two)]), "two.bin in it: it unpacks to more than 30000 bytes"),
        (tar_gz(&[("one.bin", &noise(8, 40_000)), ("two.bin", &two)]), "one.bin in it: its checksum is wrong"),
        (whole[..whole.len() / 2].to_vec(), "the archive is damaged"),
        (b"<html>not an archive</html>".to_vec(), "the archive is damaged"),
    ];
    for (archive, expected) in cases {
        let dir = tempdir().unwrap();
        let site = Site::new(vec![("/tiny/all.tar.gz".into(), archive)], Manner::Good);
        let text = run(&set, dir.path(), &site).unwrap_err().to_string();
        assert!(text.contains(expected), "`{expected}` is not in: {text}");
        assert!(!children(&dir.path().join("tiny")).iter().any(|name| name.contains("partial")));
    }
}

/// A server on this machine serves the publishers' real files, which must have the known checksums.
#[test]
fn every_known_set_can_be_fetched_and_opened() {
    let Some(real) = std::env::var_os("PIXTAPE_DATA").filter(|value| !value.is_empty()).map(PathBuf::from) else {
        let required = std::env::var("PIXTAPE_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|word| word.trim() == "data"),
            "PIXTAPE_REQUIRE asks for `data`, but PIXTAPE_DATA is unset"
        );
        eprintln!("SKIP every_known_set_can_be_fetched_and_opened: PIXTAPE_DATA is unset");
        return;
    };
    for set in &SETS {
        let dir = tempdir().unwrap();
        let read = |name: &str, ending: &str| fs::read(real.join(set.name).join(format!("{name}{ending}")));
        let served = |name: &str, ending: &str| (format!("/{}/{name}{ending}", set.name), read(name, ending).unwrap());
        let unpack = |name: &str| {
            let ending = if set.format == FileFormat::Cifar { ".xz" } else { ".gz" };
            let mut bytes = Vec::new();
            let packed = io::Cursor::new(read(name, ending).unwrap());
            match ending {
                ".gz" => io::copy(&mut flate2::read::GzDecoder::new(packed), &mut bytes),
                _ => io::copy(&mut liblzma::read::XzDecoder::new(packed), &mut bytes),
            }
            .unwrap();
            bytes
        };
        let files = match set.served {
            Served::As(".gz") => set.files.iter().map(|file| served(file.name, ".gz")).collect(),
            Served::As(_) => {
                set.files.iter().map(|file| (format!("/{}/{}", set.name, file.name), unpack(file.name))).collect()
            }
            Served::Tar(name) => {
                let inside: Vec<_> = set.files.iter().map(|file| (file.name, unpack(file.name))).collect();
                let inside: Vec<_> = inside.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
                vec![(format!("/{}/{name}", set.name), tar_gz(&inside))]
            }
        };
        let site = Site::new(files, Manner::Good);
        assert_eq!(set.missing(dir.path()).len(), set.files.len());
        assert_eq!(run(set, dir.path(), &site).unwrap().new.len(), set.files.len());
        assert!(set.missing(dir.path()).is_empty());
        let images = open(set.name, Split::Test, Some(dir.path())).unwrap();
        assert_eq!(
            (images.len(), [images.height(), images.width(), images.channels()].into()),
            (set.counts.test, set.size)
        );
    }
}
