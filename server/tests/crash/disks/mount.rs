//! Disks for a test, mounted by root.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::folder_for_disks;
use crate::wait_until;

/// Says why a test does nothing; not through the test's own output, which is shown for failures only.
pub(crate) fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    assert!(std::env::var_os("WHIMBREL_REQUIRE_MOUNTS").is_none(), "{why}");
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
}

/// Whether a command could be run, with success.
fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program} {}: {said}", args.join(" "))) }
}

/// A mounted file system; unmounted at the end.
pub(crate) struct Mount {
    folder: TempDir,
    /// The file that it is made of, if it is.
    image: Option<PathBuf>,
    /// What holds that file.
    behind: Option<Box<Mount>>,
    _image_folder: Option<TempDir>,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

impl Mount {
    fn of(args: &[&str], source: &str, image: Option<PathBuf>) -> Result<Mount, String> {
        let folder = tempfile::tempdir_in(folder_for_disks()).unwrap();
        run("mount", &[args, &[source, text(folder.path())]].concat())?;
        Ok(Mount { folder, image, behind: None, _image_folder: None })
    }

    /// Of so many bytes, in memory. `None`: it cannot be mounted, which was said.
    pub(crate) fn tmpfs(bytes: u64) -> Option<Mount> {
        let options = format!("size={bytes}");
        let mounted = Mount::of(&["-t", "tmpfs", "-o", &options], "tmpfs", None);
        mounted.inspect_err(|why| skip(why)).ok()
    }

    fn ext4_in(image: PathBuf, bytes: u64, features: &[&str], options: &str) -> Result<Mount, String> {
        File::create(&image).and_then(|file| file.set_len(bytes)).map_err(|error| error.to_string())?;
        run("mkfs.ext4", &[&["-q", "-F"], features, &[text(&image)]].concat())?;
        Mount::of(&["-t", "ext4", "-o", options], text(&image.clone()), Some(image))
    }

    /// An ext4 in a file, which becomes read-only at the first error, as is usual.
    pub(crate) fn ext4(bytes: u64) -> Option<Mount> {
        let folder = tempfile::tempdir_in(folder_for_disks()).unwrap();
        let mounted = Mount::ext4_in(folder.path().join("image"), bytes, &[], "loop,errors=remount-ro");
        let mut mount = mounted.inspect_err(|why| skip(why)).ok()?;
        mount._image_folder = Some(folder);
        Some(mount)
    }

    /// A disk of `bytes` with only `real` bytes behind it.
    pub(crate) fn thin(bytes: u64, real: u64) -> Option<Mount> {
        let behind = Mount::tmpfs(real)?;
        let image = behind.path().join("image");
        // Without a journal, so that what fails is the writing of data.
        let features = ["-O", "^has_journal", "-E", "lazy_itable_init=0"];
        let mounted = Mount::ext4_in(image, bytes, &features, "loop,errors=continue");
        let mut mount = mounted.inspect_err(|why| skip(why)).ok()?;
        mount.behind = Some(Box::new(behind));
        Some(mount)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What is behind a thin disk.
    pub(crate) fn behind(&self) -> Option<&Path> {
        self.behind.as_deref().map(Mount::path)
    }

    /// Whether it could be mounted otherwise, in place.
    pub(crate) fn remount(&self, option: &str) -> bool {
        run("mount", &["-o", &format!("remount,{option}"), text(self.path())]).is_ok()
    }

    /// What makes the file system find an error when it is written to.
    pub(crate) fn error_trigger(&self) -> Option<PathBuf> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(text(self.path())))?;
        let device = line.split(' ').next()?.strip_prefix("/dev/")?;
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        trigger.exists().then_some(trigger)
    }

    /// What an administrator does after an error: unmounts it, has it checked, mounts it.
    pub(crate) fn mount_anew(&self) {
        let image = text(self.image.as_deref().expect("there is a file")).to_owned();
        wait_until("nobody uses the disk", || run("umount", &[text(self.path())]).is_ok());
        // 1: errors were corrected.
        let checked = Command::new("e2fsck").args(["-p", &image]).output().unwrap();
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
        run("mount", &["-t", "ext4", "-o", "loop", &image, text(self.path())]).unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // The server may be about to end.
        let _ = run("umount", &["-l", text(self.folder.path())]);
    }
}

/// A file that takes all room of a disk, until it is dropped.
pub(crate) struct Ballast(PathBuf);

impl Ballast {
    pub(crate) fn fill(folder: &Path) -> Ballast {
        let path = folder.join("ballast");
        let mut file = File::create(&path).unwrap();
        for piece in [1 << 20, 4096] {
            while file.write_all(&vec![1; piece]).is_ok() {}
        }
        Ballast(path)
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}
