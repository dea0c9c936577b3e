//! The archive of one user as XEP-0227 has it: results of XEP-0313 in `<archive xmlns='urn:xmpp:pie:0#mam'/>`.

use std::io::{self, Write};

use whimbrel_storage::log::Sequence;

/// Text in an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\'' => out.push_str("&apos;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// What stands before the messages.
pub(super) fn begin(domain: &str, local: &str, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "<?xml version='1.0' encoding='UTF-8'?>\n<server-data xmlns='urn:xmpp:pie:0'><host jid='{}'><user name='{}'>\
         <archive xmlns='urn:xmpp:pie:0#mam'>",
        escaped(domain),
        escaped(local)
    )
}

/// A message.
pub(super) fn message(id: Sequence, time: &str, stanza: &str, out: &mut impl Write) -> io::Result<()> {
    let id = id.0;
    write!(
        out,
        "<result xmlns='urn:xmpp:mam:2' id='{id}'><forwarded xmlns='urn:xmpp:forward:0'><delay xmlns='urn:xmpp:delay' \
         stamp='{time}'/>"
    )?;
    // It is kept as it stands in a stream, whose namespace is jabber:client; a prefixed name has its own declared.
    let (name, rest) =
        stanza.split_at(stanza.find([' ', '\t', '\r', '\n', '/', '>']).unwrap_or(stanza.len()));
    let namespace = if name.contains(':') || name.is_empty() { "" } else { " xmlns='jabber:client'" };
    writeln!(out, "{name}{namespace}{rest}</forwarded></result>")
}

/// What stands after the messages.
pub(super) fn end(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "</archive></user></host></server-data>")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_namespace_and_names_are_escaped() {
        let mut out = Vec::new();
        begin("x.example", "o'neill&co", &mut out).unwrap();
        for stanza in [
            "<message><body>1</body></message>",
            "<c:message xmlns:c='jabber:client'><c:body>2</c:body></c:message>",
        ] {
            message(Sequence(7), "2001-09-09T01:46:40.007Z", stanza, &mut out).unwrap();
        }
        end(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let document = roxmltree::Document::parse(&text).unwrap();
        let user = document.descendants().find(|node| node.has_tag_name(("urn:xmpp:pie:0", "user"))).unwrap();
        assert_eq!(user.attribute("name"), Some("o'neill&co"));
        let bodies: Vec<&str> = document
            .descendants()
            .filter(|node| node.has_tag_name(("jabber:client", "body")))
            .filter_map(|node| node.text())
            .collect();
        assert_eq!(bodies, ["1", "2"]);
    }
}
