//! A small file system (tmpfs) that is full after two checkpoints. When it has room again, the run goes on.

use super::{MODEL, Place, failed, temporary_files};
use std::path::{Path, PathBuf};
use std::process::Command;

const STEPS: u32 = 8;

/// A mounted file system, which is removed at the end.
struct Mounted(PathBuf);

impl Mounted {
    fn new(path: PathBuf, kib: u32) -> Option<Mounted> {
        std::fs::create_dir_all(&path).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]).arg(&path);
        match mount.output() {
            Ok(output) if output.status.success() => Some(Mounted(path)),
            Ok(output) => {
                println!("SKIP: a tmpfs cannot be mounted ({})", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("SKIP: there is no program `mount` ({error})");
                None
            }
        }
    }

    fn resize(&self, kib: u32) {
        let resized = Command::new("mount").args(["-o", &format!("remount,size={kib}k")]).arg(&self.0).status();
        assert!(resized.unwrap().success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A panic here would hide the one that may have led here.
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn len(path: &Path) -> u32 {
    path.metadata().unwrap().len() as u32
}

#[test]
fn a_full_disk_stops_a_run_that_goes_on_when_there_is_room() {
    let place = Place::new();
    let train = format!("train {MODEL} --data own --steps {STEPS} --no-eval --set checkpoint_every=2");
    place.ok(&format!("{train} --out whole"));
    let checkpoint = len(&place.path(&format!("whole/checkpoints/step-{STEPS:06}.safetensors")));
    let Some(disk) = Mounted::new(place.path("small"), checkpoint * 5 / 2 / 1024 + 24) else { return };
    let sentence = failed(&place.command(&format!("{train} --out small/run")).output().unwrap());
    assert!(sentence.contains("small/run/checkpoints/step-000006.safetensors"), "{sentence}");
    assert!(sentence.contains("free some disk space"), "{sentence}");
    let run = place.path("small/run");
    assert_eq!(temporary_files(&run), [""; 0].map(Path::new), "they would keep the disk full");
    disk.resize(64 << 10);
    place.finish("small/run", &train);
    assert!(place.last("small/run", STEPS) == place.last("whole", STEPS), "the bits differ");
}
