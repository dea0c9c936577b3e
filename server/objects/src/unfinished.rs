//! Uploads that were begun and not completed: their parts take room in the store until somebody aborts them.

use hyper::Request;
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpRequestBody, HttpService};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use serde::Deserialize;

use crate::failure::{Failure, Reason, describe};
use crate::store::Core;

/// Uploads that are asked for at a time.
const PAGE: usize = 200;

/// Pages that are looked at in one go: what is behind them is found the next time.
const PAGES_MAX: usize = 50;

/// The answer to ListMultipartUploads, as far as it is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Listed {
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
    upload: Vec<Begun>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Begun {
    key: String,
    upload_id: String,
}

impl Core {
    pub(crate) async fn abort_unfinished(
        &self,
        is_under_way: &(dyn Fn(&str) -> bool + Send + Sync),
    ) -> Result<u64, Failure> {
        let (mut aborted, mut behind) = (0, None);
        let prefix = match self.settings.prefix.as_str() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        for _ in 0..PAGES_MAX {
            let listed = self.unfinished(&prefix, behind.as_ref()).await?;
            for upload in &listed.upload {
                // A store that has not understood the prefix lists others', too.
                let Some(key) = upload.key.strip_prefix(&prefix) else { continue };
                if is_under_way(key) {
                    continue;
                }
                match self.s3.abort_multipart(&Path::from(upload.key.as_str()), &upload.upload_id).await {
                    Ok(()) => {
                        self.count_aborted();
                        aborted += 1;
                    }
                    // It was completed or aborted meanwhile.
                    Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if !listed.is_truncated || listed.upload.is_empty() {
                break;
            }
            behind = Some((listed.next_key_marker, listed.next_upload_id_marker));
        }
        Ok(aborted)
    }

    async fn unfinished(&self, prefix: &str, behind: Option<&(String, String)>) -> Result<Listed, Failure> {
        let wrong = |text: String| {
            Failure::new(Reason::Wrong, format!("unfinished uploads cannot be listed: {text}"))
        };
        let mut url = format!("{}/?uploads=&max-uploads={PAGE}&prefix={}", self.base, escape(prefix));
        if let Some((key, upload)) = behind {
            url += &format!("&key-marker={}&upload-id-marker={}", escape(key), escape(upload));
        }
        let request = Request::get(url).body(HttpRequestBody::empty());
        let mut request = request.map_err(|error| wrong(error.to_string()))?;
        AwsAuthorizer::new(&self.credential, "s3", &self.settings.region)
            .try_authorize(&mut request, None)?;
        let answer = self.client.call(request).await;
        let answer = answer.map_err(|error| Failure::new(Reason::Away, describe(&error)))?;
        let status = answer.status();
        let body = answer.into_body().bytes().await;
        let body = body.map_err(|error| Failure::new(Reason::Away, describe(&error)))?;
        match status.as_u16() {
            200 => quick_xml::de::from_reader(&body[..]).map_err(|error| wrong(error.to_string())),
            401 | 403 => Err(Failure::new(
                Reason::Denied,
                "unfinished uploads may not be listed (ListBucketMultipartUploads)",
            )),
            404 => Err(Failure::new(Reason::Absent, "there is no such bucket")),
            _ => Err(wrong(status.to_string())),
        }
    }
}

/// As a value in a query.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte as char),
            byte => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_uploads_is_read() {
        let text = "<?xml version='1.0'?><ListMultipartUploadsResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>\
            <Bucket>b</Bucket><IsTruncated>true</IsTruncated><NextKeyMarker>p/a</NextKeyMarker>\
            <NextUploadIdMarker>7</NextUploadIdMarker><Upload><Key>p/a</Key><UploadId>6</UploadId><Initiator><ID>x</ID>\
            </Initiator><Initiated>2026-01-01T00:00:00.000Z</Initiated></Upload><Upload><Key>p/b</Key><UploadId>7</UploadId>\
            </Upload></ListMultipartUploadsResult>";
        let listed: Listed = quick_xml::de::from_reader(text.as_bytes()).unwrap();
        assert!(
            listed.is_truncated && listed.next_key_marker == "p/a" && listed.next_upload_id_marker == "7"
        );
        let uploads: Vec<_> = listed.upload.iter().map(|upload| (&*upload.key, &*upload.upload_id)).collect();
        assert_eq!(uploads, [("p/a", "6"), ("p/b", "7")]);
        let nothing: Listed = quick_xml::de::from_reader(&b"<ListMultipartUploadsResult/>"[..]).unwrap();
        assert!(!nothing.is_truncated && nothing.upload.is_empty());
        assert_eq!(escape("a/b c"), "a%2Fb%20c");
    }
}
