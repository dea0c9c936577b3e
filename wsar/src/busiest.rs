//! The accounts and addresses that cause most, as the server tells them in a file of its data directory
//! (`server/src/watch/busiest.rs`). It has names, so it is in no recording and no metric.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The file.
const FILE_NAME: &str = "busiest.json";

/// Bytes that are read of it at most; the server writes some ten thousand.
const BYTES_MAX: u64 = 1 << 20;

/// What the server has told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Busiest {
    /// Unix time, milliseconds.
    pub time: u64,
    /// Seconds over which messages and bytes were counted.
    pub window_seconds: u64,
    /// Seconds over which failed logins were counted.
    pub failed_seconds: u64,
    /// The lists.
    pub tables: Vec<Table>,
}

/// The largest of something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// `accounts` or `addresses`.
    pub of: String,
    /// `messages`, `bytes`, `backlog` or `failed`.
    pub by: String,
    /// As the units of the page.
    pub unit: String,
    /// Everything, also what is not in the list.
    pub total: f64,
    /// The largest first.
    pub rows: Vec<Row>,
}

/// One account or address.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its figure.
    pub figure: f64,
    /// The figure is too large by this at most.
    pub over: f64,
}

/// Reads the file when it has changed.
pub struct Reader {
    path: PathBuf,
    seen: Option<(SystemTime, u64)>,
    last: Option<Busiest>,
}

impl Reader {
    /// For a data directory.
    pub fn new(data: &Path) -> Reader {
        Reader { path: data.join(FILE_NAME), seen: None, last: None }
    }

    /// What the server has last told. `None`: nothing yet.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn look(&mut self) -> io::Result<Option<&Busiest>> {
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (self.seen, self.last) = (None, None);
                return Ok(None);
            }
            opened => opened.map_err(at)?,
        };
        let about = file.metadata().map_err(at)?;
        let seen = Some((about.modified().map_err(at)?, std::os::unix::fs::MetadataExt::ino(&about)));
        if seen != self.seen {
            let mut text = String::new();
            file.take(BYTES_MAX).read_to_string(&mut text).map_err(at)?;
            self.last = Some(serde_json::from_str(&text).map_err(|error| at(error.into()))?);
            self.seen = seen;
        }
        Ok(self.last.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_when_it_changes_and_gone_when_it_goes() {
        let data = tempfile::tempdir().unwrap();
        let mut reader = Reader::new(data.path());
        assert!(reader.look().unwrap().is_none());
        let path = data.path().join(FILE_NAME);
        let told = |time: u64| {
            let rows = r#"{"name": "juliet@localhost", "figure": 2.5, "over": 0.0}"#;
            let table = format!(
                r#"{{"of": "accounts", "by": "messages", "unit": "rate", "total": 3.0, "rows": [{rows}]}}"#
            );
            format!(
                r#"{{"version": 1, "time": {time}, "window_seconds": 10, "failed_seconds": 60, "tables": [{table}]}}"#
            )
        };
        for time in [1, 2] {
            // As the server does: another file takes the place.
            std::fs::write(data.path().join("new"), told(time)).unwrap();
            std::fs::rename(data.path().join("new"), &path).unwrap();
            let busiest = reader.look().unwrap().unwrap();
            assert_eq!((busiest.time, busiest.tables[0].rows[0].figure), (time, 2.5));
        }
        std::fs::write(data.path().join("new"), "{").unwrap();
        std::fs::rename(data.path().join("new"), &path).unwrap();
        assert!(reader.look().unwrap_err().to_string().contains(FILE_NAME));
        std::fs::remove_file(&path).unwrap();
        assert!(reader.look().unwrap().is_none());
    }
}
