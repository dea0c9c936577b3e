//! A PostgreSQL cluster of its own for one server: in a temporary folder, on a loopback port, with a password that
//! nobody else has. It is made, started and ended here, by its own process, and touches no cluster of the system.
//!
//! PostgreSQL refuses to run as root, so root runs it as the user `postgres` of Debian's package. Its settings are its
//! defaults: what has been committed is on disk.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use tempfile::TempDir;

use crate::peers::running::{end, free_port};

/// Where Debian keeps the programs of each major version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The cluster's only user. The database is `postgres`.
pub(super) const USER: &str = "whimbrel_perf";
/// The database that every new cluster has.
pub(super) const DATABASE: &str = "postgres";

/// How long a start, a recovery included, or an end may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster. Its folder goes with it.
pub(crate) struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    /// User and group that it runs as, where that is not ours.
    owner: Option<(u32, u32)>,
    port: u16,
    password: String,
}

/// A cluster that runs. It is ended when this is dropped.
pub(crate) struct Postmaster {
    child: Child,
}

impl Cluster {
    /// Makes one and fills its database from a file of SQL.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not do as it is told; its last words.
    pub(super) fn create(schema: &Path) -> Result<Cluster, String> {
        let programs = programs(Path::new(VERSIONS))?;
        let folder = tempfile::Builder::new()
            .prefix("whimbrel-postgres-")
            .tempdir()
            .map_err(|error| format!("cannot make a temporary folder: {error}"))?;
        let mut secret = [0; 16];
        SystemRandom::new().fill(&mut secret).map_err(|_| "the system gives no random bytes".to_owned())?;
        let password = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let cluster = Cluster { folder, programs, owner: owner()?, port: free_port()?, password };
        cluster.initialise()?;
        let running = cluster.start()?;
        let loaded = cluster
            .client("psql")
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-f"])
            .arg(schema)
            .output();
        drop(running);
        told("psql", loaded).map(|()| cluster)
    }

    fn initialise(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| {
            format!("cannot write PostgreSQL's files in {}: {error}", self.folder.path().display())
        };
        let file = self.folder.path().join("password");
        fs::write(&file, &self.password).map_err(failed)?;
        if let Some((user, group)) = self.owner {
            for path in [self.folder.path(), &file] {
                std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(failed)?;
            }
        }
        let made = self
            .program("initdb")
            .args(["-U", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--pwfile"])
            .arg(&file)
            .arg("-D")
            .arg(self.data())
            .output();
        told("initdb", made)
    }

    /// Starts it, and waits until it can be used.
    ///
    /// # Errors
    /// It cannot; its last words.
    pub(super) fn start(&self) -> Result<Postmaster, String> {
        let log_path = self.folder.path().join("log");
        let failed = |error: std::io::Error| format!("cannot start PostgreSQL: {error}");
        let log = fs::File::create(&log_path).map_err(failed)?;
        let child = self
            .program("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={}", self.port)])
            .args(["-c", &format!("unix_socket_directories={}", self.folder.path().display())])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let mut postmaster = Postmaster { child };
        let end = Instant::now() + PATIENCE;
        loop {
            let ready = self.client("pg_isready").stdout(Stdio::null()).status().map_err(failed)?;
            if ready.success() {
                return Ok(postmaster);
            }
            if !matches!(postmaster.child.try_wait(), Ok(None)) || Instant::now() > end {
                let log = fs::read_to_string(&log_path).unwrap_or_default();
                return Err(format!("PostgreSQL did not start: {}", log.trim().replace('\n', " | ")));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Where it listens, on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The password of [`USER`].
    pub(super) fn password(&self) -> &str {
        &self.password
    }

    /// Where its data lie.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A program that runs as the cluster's owner.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.current_dir(self.folder.path());
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    /// A program that connects to it.
    fn client(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env("PGPASSWORD", &self.password).args([
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            USER,
        ]);
        command
    }
}

impl Postmaster {
    /// Its process; those of its connections are below it.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        // "Fast shutdown": connections end, what is committed is written, then it ends.
        end(&mut self.child, libc::SIGINT, PATIENCE);
    }
}

fn told(name: &str, outcome: std::io::Result<std::process::Output>) -> Result<(), String> {
    let output = outcome.map_err(|error| format!("cannot start {name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " | ");
    Err(format!("{name} failed: {text}"))
}

/// The programs of the newest version below `folder`.
fn programs(folder: &Path) -> Result<PathBuf, String> {
    let versions = fs::read_dir(folder).into_iter().flatten().flatten();
    versions
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, programs)| programs.join("initdb").is_file() && programs.join("postgres").is_file())
        .max()
        .map(|(_, programs)| programs)
        .ok_or_else(|| {
            "PostgreSQL is not installed: install Debian's package postgresql, or leave it out with --servers"
                .into()
        })
}

/// Who runs it: ourselves, or `postgres` where we are root.
#[expect(unsafe_code, reason = "a system call")]
fn owner() -> Result<Option<(u32, u32)>, String> {
    // SAFETY: the call takes no pointers and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(None);
    }
    let users =
        fs::read_to_string("/etc/passwd").map_err(|error| format!("cannot read /etc/passwd: {error}"))?;
    user(&users, "postgres")
        .map(Some)
        .ok_or_else(|| "PostgreSQL does not run as root, and there is no user postgres to run it as".into())
}

/// User and group number of a user, from the text of /etc/passwd.
fn user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let text =
            "root:x:0:0::/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:P,,,:/v:/bin/bash\n";
        assert_eq!(user(text, "postgres"), Some((101, 104)));
        assert_eq!(user(text, "post"), None);
    }

    #[test]
    fn the_newest_version_is_chosen_by_number() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["9", "15", "16", "common"] {
            fs::create_dir_all(folder.path().join(version).join("bin")).unwrap();
        }
        for (version, program) in
            [("9", "initdb"), ("9", "postgres"), ("15", "initdb"), ("15", "postgres"), ("16", "initdb")]
        {
            fs::write(folder.path().join(version).join("bin").join(program), "").unwrap();
        }
        assert_eq!(programs(folder.path()).unwrap(), folder.path().join("15/bin"));
        assert!(programs(&folder.path().join("none")).unwrap_err().contains("postgresql"));
    }

    #[test]
    fn a_cluster_keeps_what_its_schema_made_and_leaves_nothing_behind() {
        if programs(Path::new(VERSIONS)).is_err() {
            eprintln!("skipped: PostgreSQL is not installed");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let schema = folder.path().join("schema.sql");
        fs::write(&schema, "CREATE TABLE a (b integer); INSERT INTO a VALUES (7);").unwrap();
        let cluster = Cluster::create(&schema).unwrap();
        let (data, running) = (cluster.data(), cluster.start().unwrap());
        let asked =
            cluster.client("psql").args(["-X", "-A", "-t", "-d", DATABASE, "-c", "SELECT b FROM a"]).output();
        assert_eq!(String::from_utf8(asked.unwrap().stdout).unwrap().trim(), "7");
        let stranger =
            cluster.client("psql").env("PGPASSWORD", "x").args(["-d", DATABASE, "-c", "SELECT 1"]).output();
        assert!(!stranger.unwrap().status.success(), "another password opens it");
        let id = running.id();
        drop(running);
        assert!(!Path::new(&format!("/proc/{id}/stat")).exists());
        fs::write(&schema, "SELECT nonsense;").unwrap();
        assert!(Cluster::create(&schema).is_err_and(|error| error.contains("nonsense")));
        drop(cluster);
        assert!(!data.exists());
    }
}
