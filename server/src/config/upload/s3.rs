//! The `[upload.s3]` table: an object store that files are kept in.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use whimbrel_objects::{Credentials, OBJECT_BYTES_MAX, PART_BYTES, Settings, roots};

/// How long the store may take until it answers a request.
const REQUEST: Duration = Duration::from_secs(60);

/// A store that speaks the protocol of S3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// The bucket. Empty: files are kept in the data directory.
    pub bucket: String,
    /// Scheme, host and port. Empty: Amazon's, in the region.
    pub endpoint: String,
    /// The region that requests are signed for.
    pub region: String,
    /// What names of objects begin with.
    pub prefix: String,
    /// The bucket is in the path of URLs, not in the host's name.
    pub path_style: bool,
    /// Plain HTTP is permitted, to a loopback address.
    pub allow_http: bool,
    /// A file with the access key. Empty: the environment's `AWS_ACCESS_KEY_ID`.
    pub access_key_file: PathBuf,
    /// A file with the secret key. Only its owner may read it. Empty: the environment's `AWS_SECRET_ACCESS_KEY`.
    pub secret_key_file: PathBuf,
    /// A PEM file with the authorities that may vouch for the store's certificate. Empty: those that browsers know.
    pub ca_file: PathBuf,
    /// MiB of memory that uploads on their way to the store hold together.
    pub memory_mib: u32,
}

impl Default for S3Config {
    fn default() -> Self {
        S3Config {
            bucket: String::new(),
            endpoint: String::new(),
            region: "us-east-1".into(),
            prefix: "uploads".into(),
            path_style: true,
            allow_http: false,
            access_key_file: PathBuf::new(),
            secret_key_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            memory_mib: 256,
        }
    }
}

impl S3Config {
    /// Whether files are kept there.
    pub fn is_on(&self) -> bool {
        !self.bucket.is_empty()
    }

    /// Scheme, host and port.
    pub fn endpoint(&self) -> String {
        match self.endpoint.is_empty() {
            true => format!("https://s3.{}.amazonaws.com", self.region),
            false => self.endpoint.clone(),
        }
    }

    /// As the store's client wants it. `pem`: the authorities of `ca_file`.
    ///
    /// # Errors
    /// What is wrong with the authorities.
    pub fn settings(&self, credentials: Credentials, pem: Option<&[u8]>) -> Result<Settings, String> {
        Ok(Settings {
            endpoint: self.endpoint(),
            region: self.region.clone(),
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            path_style: self.path_style,
            allow_http: self.allow_http,
            credentials,
            roots: roots(pem)?,
            memory_bytes: (self.memory_mib as usize) << 20,
            request: REQUEST,
        })
    }

    /// Checks what types cannot, but for the files that it names.
    pub(super) fn check(&self, file_bytes_max: u64) -> Result<(), String> {
        if !self.is_on() {
            return match *self == S3Config::default() {
                true => Ok(()),
                false => {
                    Err("upload.s3.bucket is empty, but other keys of [upload.s3] are set; name the bucket"
                        .into())
                }
            };
        }
        let nobody = Credentials { access_key: String::new().into(), secret_key: String::new().into() };
        self.settings(nobody, None)?.check().map_err(|wrong| format!("upload.s3.{wrong}"))?;
        let least = (PART_BYTES >> 20) as u32;
        if !(least..=65_536).contains(&self.memory_mib) {
            let text = format!("upload.s3.memory_mib is {}; use {least} to 65536", self.memory_mib);
            return Err(text);
        }
        if file_bytes_max > OBJECT_BYTES_MAX {
            let most = OBJECT_BYTES_MAX >> 20;
            return Err(format!("upload.file_mib_max is {}; at most {most} in S3", file_bytes_max >> 20));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_named() {
        let on = || S3Config { bucket: "files".into(), ..S3Config::default() };
        assert_eq!(S3Config::default().check(1), Ok(()));
        assert_eq!(on().check(1 << 30), Ok(()));
        assert_eq!(on().endpoint(), "https://s3.us-east-1.amazonaws.com");
        type Change = fn(&mut S3Config);
        let table: [(&str, Change); 6] = [
            ("upload.s3.bucket is empty", |c| c.bucket = String::new()),
            ("upload.s3.bucket is `a b`", |c| c.bucket = "a b".into()),
            ("upload.s3.endpoint is `http://127.0.0.1:1`; set allow_http", |c| {
                c.endpoint = "http://127.0.0.1:1".into();
            }),
            ("in the clear", |c| {
                c.endpoint = "http://s3.example.org".into();
                c.allow_http = true;
            }),
            ("upload.s3.prefix is `/a`", |c| c.prefix = "/a".into()),
            ("upload.s3.memory_mib is 4; use 5", |c| c.memory_mib = 4),
        ];
        for (said, change) in table {
            let mut config = S3Config { region: "eu-central-1".into(), ..on() };
            change(&mut config);
            let error = config.check(1).expect_err(said);
            assert!(error.contains(said), "{said}: {error}");
        }
        let error = on().check(OBJECT_BYTES_MAX + (1 << 20)).unwrap_err();
        assert_eq!(error, "upload.file_mib_max is 50001; at most 50000 in S3");
    }
}
