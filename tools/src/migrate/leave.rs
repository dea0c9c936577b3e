//! `user export`: accounts with what belongs to them, in the format of XEP-0227, for another server or for `user migrate`.
//!
//! Reading works beside a running server. One account is in memory at a time; each is as it is when it is read.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde_json::json;
use whimbrel_storage::credentials::{Credentials, ScramHash};
use whimbrel_storage::directory::{Directory, DirectoryError, Item, Settings, Subscription};
use zeroize::Zeroizing;

use super::export::xml::escaped;
use super::export::{SETTINGS, devices, nodes, uploads};
use crate::accounts::{open_to_read, unknown};
use crate::cli::UserExportArgs;
use crate::problem::Problem;
use crate::report::Report;
use crate::user::bare;

/// Accounts whose names are read together.
const PAGE: usize = 1000;

/// What was written.
#[derive(Default)]
struct Written {
    accounts: u64,
    contacts: u64,
    nodes: u64,
    items: u64,
    uploads: u64,
}

/// Why it ends early.
enum Stopped {
    Problem(Problem),
    Output(io::Error),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        Stopped::Output(error)
    }
}

impl From<DirectoryError> for Stopped {
    fn from(error: DirectoryError) -> Stopped {
        Stopped::Problem(Problem::new(error.to_string()))
    }
}

/// Runs it.
pub(crate) fn run(data: &Path, args: &UserExportArgs, report: &Report) -> Result<(), Problem> {
    let (directory, domain) = open_to_read(data)?;
    let wanted =
        args.jids.iter().map(|jid| local_of(jid, &directory, &domain)).collect::<Result<Vec<_>, _>>()?;
    let Some(path) = &args.output else {
        return match export(&directory, &domain, &wanted, BufWriter::new(io::stdout().lock())) {
            // A reader that closes the pipe does not want the rest.
            Err(Stopped::Output(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Problem::new(format!("cannot write to standard output: {error}")))
            }
            Err(Stopped::Problem(problem)) => Err(problem),
            Ok(_) | Err(Stopped::Output(_)) => Ok(()),
        };
    };
    let Written { accounts, contacts, nodes, items, uploads } =
        to_file(path, |file| export(&directory, &domain, &wanted, file))?;
    let value = json!({
        "file": path, "accounts": accounts, "contacts": contacts, "nodes": nodes, "items": items, "uploads": uploads,
    });
    report.result(&value, || {
        format!(
            "{accounts} accounts with {contacts} contacts, {nodes} nodes with {items} items and a list of {uploads} uploaded \
             files written to {}",
            path.display()
        )
    });
    Ok(())
}

/// The localpart of an account that is there.
fn local_of(jid: &str, directory: &Directory, domain: &str) -> Result<String, Problem> {
    let (local, of) = bare(jid)?;
    if of != domain {
        let text = format!("the accounts here are of {domain}, not of {of}");
        return Err(Problem::of_kind("foreign-domain", text));
    }
    match directory.account_exists(&local) {
        Ok(true) => Ok(local),
        Ok(false) => Err(unknown(&local, domain)),
        Err(error) => Err(Problem::new(error.to_string())),
    }
}

/// Into a new file for its owner only, since it has keys. Nothing is left of one that could not be finished.
fn to_file(
    path: &Path,
    export: impl FnOnce(BufWriter<&File>) -> Result<Written, Stopped>,
) -> Result<Written, Problem> {
    let unwritten = |error: io::Error| Problem::new(format!("cannot write {}: {error}", path.display()));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = made.map_err(unwritten)?;
    let written = export(BufWriter::new(&file));
    let written = written.and_then(|written| file.sync_all().map(|()| written).map_err(Stopped::Output));
    written.map_err(|stopped| {
        // The reason of the failure says more than that of a failure to clean up.
        let _ = std::fs::remove_file(path);
        match stopped {
            Stopped::Problem(problem) => problem,
            Stopped::Output(error) => unwritten(error),
        }
    })
}

fn export(
    directory: &Directory,
    domain: &str,
    wanted: &[String],
    mut out: impl Write,
) -> Result<Written, Stopped> {
    let mut written = Written::default();
    writeln!(
        out,
        "<?xml version='1.0' encoding='UTF-8'?>\n<server-data xmlns='urn:xmpp:pie:0'><host jid='{}'>",
        escaped(domain)
    )?;
    let mut page = wanted.to_vec();
    if wanted.is_empty() {
        page = directory.accounts(None, PAGE)?;
    }
    while let Some(last) = page.last().cloned() {
        for local in &page {
            // One that has been deleted meanwhile is left out.
            if let Some(text) = user(directory, domain, local, &mut written)? {
                writeln!(out, "{}", text.as_str())?;
            }
        }
        page = match wanted.is_empty() {
            true => directory.accounts(Some(&last), PAGE)?,
            false => Vec::new(),
        };
    }
    writeln!(out, "</host></server-data>")?;
    out.flush()?;
    Ok(written)
}

/// An account; `None`: there is none.
fn user(
    directory: &Directory,
    domain: &str,
    local: &str,
    written: &mut Written,
) -> Result<Option<Zeroizing<String>>, DirectoryError> {
    let Some(credentials) = directory.credentials(local)? else { return Ok(None) };
    let owner = format!("{local}@{domain}");
    let mut out = Zeroizing::new(format!("<user name='{}'>", escaped(local)));
    for hash in [ScramHash::Sha1, ScramHash::Sha256] {
        out.push_str(&keys(&credentials, hash));
    }
    let roster = directory.roster_items(local)?;
    contacts(&roster, &mut out);
    list(&directory.blocked(local)?, &mut out);
    if let Some(vcard) = directory.vcard(local)? {
        out.push_str(&String::from_utf8_lossy(&vcard));
    }
    for private in directory.all_private(local)? {
        let xml = String::from_utf8_lossy(&private.xml);
        out.push_str(&format!("<query xmlns='jabber:iq:private'>{xml}</query>"));
    }
    own_settings(directory.settings(local)?, &mut out);
    if let Some(account) = directory.account_id(local)? {
        devices::write(&directory.push_devices(account)?, &mut out);
        written.uploads += uploads::write(directory, account, &mut out)?;
    }
    let (nodes, items) = nodes::write(directory, (local, &owner), &mut out)?;
    out.push_str("</user>");
    written.accounts += 1;
    written.contacts += roster.iter().filter(|item| item.listed).count() as u64;
    written.nodes += nodes;
    written.items += items;
    Ok(Some(out))
}

/// Keys of one mechanism.
fn keys(credentials: &Credentials, hash: ScramHash) -> Zeroizing<String> {
    let text = credentials.to_rfc5803(hash);
    // SCRAM-SHA-256$4096:SALT$STOREDKEY:SERVERKEY
    let mut parts = text.splitn(5, ['$', ':']);
    let mut part = || parts.next().unwrap_or_default();
    let (mechanism, rounds, salt, stored, server) = (part(), part(), part(), part(), part());
    Zeroizing::new(format!(
        "<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='{mechanism}'><iter-count>{rounds}</iter-count>\
         <salt>{salt}</salt><server-key>{server}</server-key><stored-key>{stored}</stored-key></scram-credentials>"
    ))
}

/// The roster, and requests that wait for an answer.
fn contacts(roster: &[Item], out: &mut String) {
    let listed: Vec<&Item> = roster.iter().filter(|item| item.listed).collect();
    if !listed.is_empty() {
        out.push_str("<query xmlns='jabber:iq:roster'>");
        listed.iter().for_each(|item| contact(item, out));
        out.push_str("</query>");
    }
    for item in roster.iter().filter(|item| item.pending_in.is_some()) {
        let from = escaped(&item.contact);
        out.push_str(&format!("<presence xmlns='jabber:client' type='subscribe' from='{from}'/>"));
    }
}

fn contact(item: &Item, out: &mut String) {
    let subscription = match item.subscription {
        Subscription::None => "none",
        Subscription::To => "to",
        Subscription::From => "from",
        Subscription::Both => "both",
    };
    out.push_str(&format!("<item jid='{}' subscription='{subscription}'", escaped(&item.contact)));
    if !item.name.is_empty() {
        out.push_str(&format!(" name='{}'", escaped(&item.name)));
    }
    if item.ask {
        out.push_str(" ask='subscribe'");
    }
    if item.approved {
        out.push_str(" approved='true'");
    }
    out.push('>');
    item.groups.iter().for_each(|group| out.push_str(&format!("<group>{}</group>", escaped(group))));
    out.push_str("</item>");
}

/// What the account says of itself, which only this server understands.
fn own_settings(settings: Settings, out: &mut String) {
    if settings != Settings::default() {
        out.push_str(&format!("<settings xmlns='{SETTINGS}'>"));
        for (name, value) in settings.texts() {
            out.push_str(&format!("<setting name='{name}' value='{value}'/>"));
        }
        out.push_str("</settings>");
    }
}

/// The block list.
fn list(blocked: &[String], out: &mut String) {
    if !blocked.is_empty() {
        out.push_str("<blocklist xmlns='urn:xmpp:blocking'>");
        blocked.iter().for_each(|jid| out.push_str(&format!("<item jid='{}'/>", escaped(jid))));
        out.push_str("</blocklist>");
    }
}
