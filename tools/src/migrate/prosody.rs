//! What Prosody's exports lack, out of its data directory: block lists, and messages that wait.
//!
//! Its files (`storage = "internal"`) are Lua:
//!
//! ```text
//! DATA/HOST/blocklist/USER.dat   return { ["paris@example.org"] = 1795950876; … };
//! DATA/HOST/offline/USER.list    item({ ["name"] = "message"; ["attr"] = { … }; { … }; … });   one after another
//! ```
//!
//! Nothing of them is run: tables, strings, numbers and words are read, and anything else is an error. A stanza is a table with `name`,
//! `attr`, and children in its list, which are text or stanzas; in `attr` a byte of 1 is between namespace and name.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use roxmltree::Document;

use super::export::User;
use super::export::xml::escaped;
use super::lua::{self, Table, Value};

/// A larger file of one user is left out.
const FILE_BYTES_MAX: u64 = 256 << 20;

const CLIENT: &str = "jabber:client";

/// A data directory.
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    /// That of a path, such as `/var/lib/prosody`.
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Adds to a user of an export what there is of it here. What cannot be read is among its remarks.
    pub(super) fn complete(&self, user: &mut User) {
        match self.tables(user, "blocklist", "dat") {
            Ok(tables) => tables.iter().for_each(|blocked| block(user, blocked)),
            Err(remark) => user.remarks.push(remark),
        }
        match self.tables(user, "offline", "list") {
            Ok(tables) => tables.iter().for_each(|stanza| wait(user, stanza)),
            Err(remark) => user.remarks.push(remark),
        }
    }

    /// The tables of a user's file; none where there is none.
    fn tables(&self, user: &User, store: &str, extension: &str) -> Result<Vec<Table>, String> {
        let name = format!("{}.{extension}", encoded(&user.local));
        let path = self.folder.join(encoded(&user.domain)).join(store).join(name);
        let failed = |error: &dyn std::fmt::Display| format!("{} is left out: {error}", path.display());
        match fs::metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(&error)),
            Ok(found) if found.len() > FILE_BYTES_MAX => {
                return Err(failed(&format!("it has more than {} MiB", FILE_BYTES_MAX >> 20)));
            }
            Ok(_) => {}
        }
        lua::tables(&fs::read(&path).map_err(|error| failed(&error))?).map_err(|error| failed(&error))
    }
}

/// A name as Prosody writes it in paths: all but letters and digits in hexadecimal.
fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte.is_ascii_alphanumeric() {
            true => text.push(char::from(byte)),
            false => text += &format!("%{byte:02x}"),
        }
    }
    text
}

/// The addresses are the keys, with the time at which they were blocked; what else it knows is under `false`.
fn block(user: &mut User, blocked: &Table) {
    for (key, value) in &blocked.fields {
        if let Value::Text(address) = key
            && !matches!(value, Value::Word("false" | "nil"))
        {
            user.block_address(address);
        }
    }
}

fn wait(user: &mut User, stanza: &Table) {
    let mut text = String::new();
    let is_message = stanza.text("name") == Some("message");
    let written = if is_message { write(stanza, CLIENT, Some(&user.domain), &mut text) } else { None };
    match written.and_then(|()| Document::parse(&text).ok()) {
        Some(document) => user.message(document.root_element()),
        None => user.remarks.push("a message that waits is left out: it is no message".into()),
    }
}

/// Writes an element, in the namespace that it is in without one of its own. `server`: it is the stanza, to which the server has noted
/// when it came. `None`: it has no name.
fn write(element: &Table, outer: &str, server: Option<&str>, out: &mut String) -> Option<()> {
    let name = element.text("name")?;
    let attributes = element.table("attr");
    let of = |key: &str| attributes.and_then(|attributes| attributes.text(key));
    let namespace = of("xmlns").unwrap_or(outer);
    *out += &format!("<{name} xmlns='{}'", escaped(namespace));
    for (key, value) in attributes.iter().flat_map(|attributes| &attributes.fields) {
        let (Value::Text(key), Value::Text(value)) = (key, value) else { continue };
        // Those of other namespaces would want a prefix; no client relies on them.
        let is_plain =
            !key.contains('\u{1}') && key != "xmlns" && !(server.is_some() && key.starts_with("stamp"));
        if is_plain {
            *out += &format!(" {key}='{}'", escaped(value));
        }
    }
    out.push('>');
    for child in &element.list {
        match child {
            Value::Text(text) => *out += &escaped(text),
            Value::Table(child) => write(child, namespace, None, out)?,
            Value::Word(_) | Value::Number => {}
        }
    }
    if let (Some(server), Some(stamp)) = (server, of("stamp")) {
        let (server, stamp) = (escaped(server), escaped(stamp));
        *out += &format!("<delay xmlns='urn:xmpp:delay' from='{server}' stamp='{stamp}'/>");
    }
    *out += &format!("</{name}>");
    Some(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const OFFLINE: &str = r#"item({
	["name"] = "message";
	["attr"] = {
		["to"] = "juliet@example.org";
		["from"] = "romeo@example.org/o";
		["type"] = "chat";
		["stamp"] = "2026-01-31T12:05:59Z";
		["http://a\001b"] = "c";
	};
	{
		["name"] = "body";
		["attr"] = {};
		"1 < 2 \226\153\165 \"q\"";
	};
	{
		["name"] = "x";
		["attr"] = { ["xmlns"] = "urn:x"; ["y"] = "'"; };
	};
	["when"] = 1769861159;
	["with"] = "";
	["key"] = "k";
});
item({ ["name"] = "presence"; ["attr"] = {}; });
"#;

    fn users(folder: &Path) -> User {
        let export = "<server-data xmlns='urn:xmpp:pie:0'><host jid='example.org'><user name='ju.liet' password='p'/></host></server-data>";
        let file = folder.join("export.xml");
        fs::write(&file, export).unwrap();
        super::super::export::read(&file).unwrap().remove(0)
    }

    #[test]
    fn block_lists_and_messages_are_found_under_prosodys_names() {
        let folder = tempfile::tempdir().unwrap();
        let mut user = users(folder.path());
        let host = folder.path().join("example%2eorg");
        for (store, name, text) in [
            (
                "blocklist",
                "ju%2eliet.dat",
                "return {\n\t[false] = { [\"created\"] = 1; };\n\t[\"paris@example.org\"] = 1795950876;\n\t[\"nurse@example.org\"] = false;\n};",
            ),
            ("offline", "ju%2eliet.list", OFFLINE),
        ] {
            fs::create_dir_all(host.join(store)).unwrap();
            fs::write(host.join(store).join(name), text).unwrap();
        }
        Store::new(folder.path()).complete(&mut user);
        assert_eq!(user.blocked, ["paris@example.org"]);
        assert_eq!(user.remarks, ["a message that waits is left out: it is no message"]);
        let [waiting] = &user.offline[..] else { panic!("{} wait", user.offline.len()) };
        assert_eq!(waiting.time_ms, Some(1_769_861_159_000));
        assert_eq!(
            waiting.stanza,
            "<message from=\"romeo@example.org/o\" to=\"juliet@example.org\" type='chat'><body>1 &lt; 2 ♥ &quot;q&quot;</body>\
             <x xmlns='urn:x' y='&apos;'></x></message>"
        );
    }

    #[test]
    fn what_is_not_there_is_nothing_and_what_is_no_table_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut user = users(folder.path());
        let store = Store::new(folder.path());
        store.complete(&mut user);
        assert!(user.remarks.is_empty() && user.offline.is_empty());
        let offline = folder.path().join("example%2eorg/offline");
        fs::create_dir_all(&offline).unwrap();
        fs::write(offline.join("ju%2eliet.list"), "item(os.exit());").unwrap();
        store.complete(&mut user);
        assert!(user.remarks[0].contains("ju%2eliet.list is left out: "), "{:?}", user.remarks);
    }
}
