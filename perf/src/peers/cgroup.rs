//! A memory cgroup of a run's own (Linux): a server that is started in it may use so much memory and no more, what the system
//! keeps of its files included.
//!
//! It lies below the root of the machine's hierarchy, where no rule of version 2 forbids it, and is removed with the run. Only
//! root may make one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long its processes may take to be gone, after they have ended.
const REMOVE_MAX: Duration = Duration::from_secs(5);

/// A cgroup. It is removed when this is dropped; what was started in it has ended by then.
pub(crate) struct Cgroup {
    path: PathBuf,
    version: Version,
}

/// Which interface the kernel has mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// The file that limits memory, and those that forbid what would get around it, where they are.
    fn limits(self) -> (&'static str, &'static [&'static str]) {
        match self {
            // Memory and swap together: as much as memory alone.
            Version::One => ("memory.limit_in_bytes", &["memory.memsw.limit_in_bytes"]),
            Version::Two => ("memory.max", &["memory.swap.max"]),
        }
    }

    /// The file that tells the most memory that it ever used.
    fn peak(self) -> &'static str {
        match self {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        }
    }
}

impl Cgroup {
    /// Makes one whose processes may use so many bytes.
    ///
    /// # Errors
    /// The system has no memory cgroups, or does not let this user make one.
    pub(crate) fn new(bytes: u64) -> Result<Cgroup, String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| format!("memory cgroups are Linux's: /proc/self/mountinfo: {error}"))?;
        let (root, version) = hierarchy(&mounts).ok_or("this system has no memory cgroups mounted")?;
        let path = root.join(format!("whimbrel-perf-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| {
            format!("cannot make the memory cgroup {} (root can): {error}", path.display())
        })?;
        let cgroup = Cgroup { path, version };
        let (limit, others) = version.limits();
        cgroup.write(limit, bytes)?;
        for file in others.iter().filter(|file| cgroup.path.join(file).exists()) {
            let swap = if version == Version::Two { 0 } else { bytes };
            cgroup.write(file, swap)?;
        }
        Ok(cgroup)
    }

    fn write(&self, file: &str, bytes: u64) -> Result<(), String> {
        let path = self.path.join(file);
        fs::write(&path, bytes.to_string()).map_err(|error| {
            let hint = match self.version {
                Version::Two if !path.exists() => {
                    "; the memory controller is not enabled: `echo +memory > cgroup.subtree_control` in the folder above"
                }
                _ => "",
            };
            format!("cannot write {}: {error}{hint}", path.display())
        })
    }

    /// What starts a program in it, with its arguments: the process is the program's own.
    pub(crate) fn within(&self, program: Box<dyn Fn() -> Command>) -> Box<dyn Fn() -> Command> {
        let processes = self.path.join("cgroup.procs");
        Box::new(move || {
            let program = program();
            let mut command = Command::new("/bin/sh");
            command
                .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
                .arg(&processes)
                .arg(program.get_program())
                .args(program.get_args());
            command
        })
    }

    /// The most memory that it ever used, in bytes.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        fs::read_to_string(self.path.join(self.version.peak())).ok()?.trim().parse().ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let end = Instant::now() + REMOVE_MAX;
        while let Err(error) = fs::remove_dir(&self.path) {
            if Instant::now() > end {
                // A closed standard error ends no run.
                let _ = writeln!(
                    std::io::stderr(),
                    "whimbrel-perf: the memory cgroup is left behind ({error}): rmdir {}",
                    self.path.display()
                );
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where the hierarchy that limits memory is mounted: that of version 1, if there is one.
fn hierarchy(mounts: &str) -> Option<(PathBuf, Version)> {
    // proc(5): the fifth field is where it is mounted; behind " - " are type, source and options of the file system.
    let mounted = mounts.lines().filter_map(|line| {
        let (place, system) = line.split_once(" - ")?;
        let mut fields = system.split(' ');
        let (kind, options) = (fields.next()?, fields.nth(1)?);
        let place = Path::new(place.split(' ').nth(4)?).to_owned();
        match kind {
            "cgroup" if options.split(',').any(|option| option == "memory") => Some((place, Version::One)),
            "cgroup2" => Some((place, Version::Two)),
            _ => None,
        }
    });
    mounted.min_by_key(|(_, version)| *version == Version::Two)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_that_limits_memory_is_found() {
        let two = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let one = "31 24 0:27 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu\n\
                   32 24 0:28 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n";
        let root = "22 1 254:0 / / rw - ext4 /dev/vda rw\n";
        let at = |path: &str, version| Some((PathBuf::from(path), version));
        assert_eq!(hierarchy(&format!("{root}{two}")), at("/sys/fs/cgroup", Version::Two));
        let both = format!("{root}{two}{one}");
        assert_eq!(hierarchy(&both), at("/sys/fs/cgroup/memory", Version::One));
        assert_eq!(hierarchy(root), None);
        assert_eq!(hierarchy("nonsense\n - cgroup\n"), None);
    }

    #[test]
    fn a_program_that_is_started_in_a_cgroup_is_limited_and_the_cgroup_goes() {
        let cgroup = match Cgroup::new(64 << 20) {
            Ok(cgroup) => cgroup,
            Err(reason) => {
                eprintln!("skipped: {reason}");
                return;
            }
        };
        let path = cgroup.path.clone();
        let run = |program: &'static str, args: &'static [&str]| {
            let start = cgroup.within(Box::new(move || {
                let mut command = Command::new(program);
                command.args(args);
                command
            }));
            start().output().unwrap()
        };
        let told = run("/bin/cat", &["/proc/self/cgroup"]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(told.contains(name), "{told}");
        // More than is allowed is not to be had.
        let outcome = run("/bin/sh", &["-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}"]);
        assert!(outcome.stdout.is_empty(), "{outcome:?}");
        assert!(cgroup.peak_bytes().unwrap() <= 64 << 20);
        drop(cgroup);
        assert!(!path.exists());
    }
}
