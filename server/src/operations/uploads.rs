//! Requests about files that accounts have uploaded.

use serde_json::{Value, json};
use whimbrel_storage::directory::{Upload, UploadId};

use crate::control::{Answer, ControlRefusal, Problem};
use crate::operations::Control;
use crate::operations::handlers::unreadable;

/// Files on one page at most.
const PAGE_MAX: usize = 1000;

impl Control {
    pub(super) fn upload_list(&self, jid: &str, after: Option<&str>, max: usize) -> Answer {
        let local = self.local(jid)?;
        let directory = &self.server.shared.directory;
        let account = directory.account_id(&local).map_err(unreadable)?;
        let account = account
            .ok_or_else(|| Problem::new(ControlRefusal::NotFound, format!("there is no account {jid}")))?;
        let after = after.map(id_of).transpose()?;
        let page = directory.uploads_of(account, after.as_ref(), max.clamp(1, PAGE_MAX));
        let (files, next) = page.map_err(unreadable)?;
        let usage = directory.upload_usage(account).map_err(unreadable)?;
        Ok(json!({
            "uploads": files.iter().map(upload_json).collect::<Vec<_>>(),
            "next": next.map(|id| id.to_string()),
            "files": usage.files,
            "bytes": usage.bytes,
            "slots": usage.slots,
        }))
    }

    pub(super) fn upload_stats(&self) -> Answer {
        let (usage, erasures) = self.server.shared.directory.upload_totals().map_err(unreadable)?;
        let transfers = self.server.shared.stats.upload[0].transfers.get();
        Ok(json!({
            "on": self.server.uploads.is_some(),
            "files": usage.files,
            "bytes": usage.bytes,
            "bytes_max": u64::from(self.server.config().upload.mib_max) << 20,
            "slots": usage.slots,
            "slot_bytes": usage.slot_bytes,
            "to_erase": erasures,
            "transfers": transfers,
        }))
    }

    pub(super) fn upload_remove(&self, id: Option<&str>, jid: Option<&str>) -> Answer {
        let removed = match (id, jid) {
            (Some(id), None) => {
                let file = id_of(id)?;
                let found = self.write(move |transaction| transaction.remove_upload(&file))?;
                found.map(|_| 1).ok_or_else(|| {
                    Problem::new(ControlRefusal::NotFound, format!("there is no upload {id}"))
                })?
            }
            (None, Some(jid)) => {
                let local = self.local(jid)?;
                let removed = self.write(move |transaction| match transaction.account_id(&local)? {
                    Some(account) => transaction.remove_uploads_of(account).map(Some),
                    None => Ok(None),
                })?;
                removed.ok_or_else(|| {
                    Problem::new(ControlRefusal::NotFound, format!("there is no account {jid}"))
                })?
            }
            _ => {
                let text = "name either an upload or an account";
                return Err(Problem::new(ControlRefusal::BadRequest, text));
            }
        };
        Ok(json!({ "removed": removed }))
    }
}

/// An id, or a URL that has it.
fn id_of(text: &str) -> Result<UploadId, Problem> {
    let parts = text.split(['/', '?']).rev();
    let found = parts.into_iter().find_map(|part| part.parse::<UploadId>().ok());
    found.ok_or_else(|| {
        let text =
            format!("`{text}` names no upload; `whimbrelctl upload list JID` shows ids, and URLs have them");
        Problem::new(ControlRefusal::BadRequest, text)
    })
}

fn upload_json(upload: &Upload) -> Value {
    json!({
        "id": upload.id.to_string(),
        "name": upload.name,
        "media": upload.media,
        "bytes": upload.bytes,
        "came_ms": upload.time_ms,
    })
}
