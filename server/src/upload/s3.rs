//! The object store of the configuration, and who asks it.

use std::ffi::OsString;
use std::path::Path;

use whimbrel_objects::{Credentials, Settings};
use zeroize::Zeroizing;

use crate::config::UploadConfig;
use crate::shared::secret;

/// Bytes of a file with certificates at most.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// The store of a configuration that was checked; `None`: files are kept in the data directory. Reads the files that it names, and
/// `environment` where it names none.
///
/// # Errors
/// Something cannot be used; the text says what and why, and tells no secret.
pub fn settings(
    config: &UploadConfig,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Settings>, String> {
    let s3 = &config.s3;
    if !s3.is_on() {
        return Ok(None);
    }
    let read = |key: &'static str, path: &Path, variable: &str| -> Result<Zeroizing<String>, String> {
        let key = format!("upload.s3.{key}");
        let (bytes, place) = match path.as_os_str().is_empty() {
            false => (secret::read(&key, path)?, path.display().to_string()),
            true => {
                let value = environment(variable).filter(|value| !value.is_empty());
                let value = value
                    .ok_or_else(|| format!("{key} is empty, and so is {variable} in the environment"))?;
                (Zeroizing::new(value.into_encoded_bytes()), variable.to_owned())
            }
        };
        let text = std::str::from_utf8(&bytes).ok().filter(|text| is_key(text));
        let text = text
            .ok_or_else(|| format!("{key}: {place}: it is no key: one word of letters, digits and signs"))?;
        Ok(Zeroizing::new(text.to_owned()))
    };
    let credentials = Credentials {
        access_key: read("access_key_file", &s3.access_key_file, "AWS_ACCESS_KEY_ID")?,
        secret_key: read("secret_key_file", &s3.secret_key_file, "AWS_SECRET_ACCESS_KEY")?,
    };
    let failed = |text: String| format!("upload.s3.ca_file: {}: {text}", s3.ca_file.display());
    let pem = match s3.ca_file.as_os_str().is_empty() {
        true => None,
        false => Some(read_pem(&s3.ca_file).map_err(failed)?),
    };
    s3.settings(credentials, pem.as_deref()).map(Some).map_err(failed)
}

/// What can be in a header.
fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn read_pem(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > PEM_BYTES_MAX {
        return Err(format!("it has {bytes} bytes; at most {PEM_BYTES_MAX}"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(secret: &Path) -> UploadConfig {
        let mut config = UploadConfig::default();
        config.s3.bucket = "files".into();
        config.s3.secret_key_file = secret.to_owned();
        config
    }

    fn environment(name: &str) -> Option<OsString> {
        (name == "AWS_ACCESS_KEY_ID").then(|| "AKIA".into())
    }

    #[test]
    fn keys_are_of_files_or_of_the_environment_and_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        assert!(settings(&UploadConfig::default(), environment).unwrap().is_none());
        let error = settings(&config(Path::new("")), environment).unwrap_err();
        assert_eq!(
            error,
            "upload.s3.secret_key_file is empty, and so is AWS_SECRET_ACCESS_KEY in the environment"
        );
        let write = |text: &str, mode| {
            let _ = std::fs::remove_file(&file);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            settings(&config(&file), environment)
        };
        for (text, mode, said) in [
            ("tell-nobody", 0o644, "others than its owner may use it (mode 0644)"),
            ("tell nobody", 0o600, "it is no key"),
            ("", 0o600, "it is no key"),
        ] {
            let error = write(text, mode).unwrap_err();
            assert!(error.starts_with("upload.s3.secret_key_file: /") && error.contains(said), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
        let found = write("tell-nobody\n", 0o600).unwrap().unwrap();
        assert_eq!(
            (&**found.credentials.access_key, &**found.credentials.secret_key),
            ("AKIA", "tell-nobody")
        );
        assert!(!format!("{found:?}").contains("tell-nobody"));
        let mut with_authority = config(&file);
        with_authority.s3.ca_file = file.clone();
        let error = settings(&with_authority, environment).unwrap_err();
        assert!(
            error.contains("upload.s3.ca_file: /") && error.ends_with("it has no certificate (PEM)"),
            "{error}"
        );
    }
}
