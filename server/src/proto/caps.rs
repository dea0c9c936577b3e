//! Entity capabilities (XEP-0115): the hash that a client has in its presence, whether an answer to disco is the one that the
//! hash was made of, and of which nodes the client wants to hear (`NODE+notify`, XEP-0060 §9.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest;

use crate::proto::forms::FORM_TYPE;
use crate::proto::ns;
use crate::xml::Element;

/// Most bytes of a name of software, and of a hash, that are taken from a presence.
const TEXT_BYTES_MAX: usize = 1023;

/// The end of the features that name a node of interest.
const NOTIFY: &str = "+notify";

/// Bytes of a hash: SHA-1.
pub const HASH_BYTES: usize = 20;

/// What a presence says of its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The node of disco that has it all.
    pub node: String,
    /// The hash.
    pub hash: [u8; HASH_BYTES],
}

impl Announced {
    /// Reads `<c/>` of a presence. `None`: there is none, or one with another kind of hash, which nobody here can check.
    pub fn read(presence: &Element) -> Option<Announced> {
        let caps = presence.find("c", ns::CAPS)?;
        let (node, ver) = (caps.attribute("node")?, caps.attribute("ver")?);
        if caps.attribute("hash") != Some("sha-1")
            || node.len() > TEXT_BYTES_MAX
            || ver.len() > TEXT_BYTES_MAX
        {
            return None;
        }
        let hash = STANDARD.decode(ver).ok()?.try_into().ok()?;
        Some(Announced { node: format!("{node}#{ver}"), hash })
    }
}

/// The hash of an answer to disco (§5.1); `None` for one that is ill-formed (§5.4), which nobody may trust.
pub fn hash_of(info: &Element) -> Option<[u8; HASH_BYTES]> {
    let mut identities: Vec<String> = named(info, "identity").map(identity).collect();
    let mut features: Vec<&str> =
        named(info, "feature").map(|feature| feature.attribute("var").unwrap_or_default()).collect();
    let mut forms: Vec<(String, String)> = Vec::new();
    for form in info.elements().filter(|child| child.is("x", ns::DATA_FORMS)) {
        if let Some(form) = form_of(form)? {
            forms.push(form);
        }
    }
    identities.sort_unstable();
    features.sort_unstable();
    forms.sort_unstable();
    let has_twins = identities.windows(2).any(|pair| pair[0] == pair[1])
        || features.windows(2).any(|pair| pair[0] == pair[1])
        || forms.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if has_twins {
        return None;
    }
    let mut text = identities.concat();
    for feature in features {
        text.push_str(feature);
        text.push('<');
    }
    forms.iter().for_each(|(_, form)| text.push_str(form));
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    hash.as_ref().try_into().ok()
}

fn named<'a>(info: &'a Element, name: &'a str) -> impl Iterator<Item = &'a Element> {
    info.elements().filter(move |child| child.is(name, ns::DISCO_INFO))
}

fn identity(identity: &Element) -> String {
    let part = |name| identity.attribute(name).unwrap_or_default();
    let language = identity.lang().unwrap_or_default();
    format!("{}/{}/{language}/{}<", part("category"), part("type"), part("name"))
}

/// The type of a form, and its part of the text. `Some(None)`: one without a type counts for nothing. `None`: it has several.
fn form_of(form: &Element) -> Option<Option<(String, String)>> {
    let mut fields = Vec::new();
    let mut form_type = None;
    for field in form.elements().filter(|child| child.is("field", ns::DATA_FORMS)) {
        let name = field.attribute("var").unwrap_or_default();
        let mut values: Vec<_> = field
            .elements()
            .filter(|child| child.is("value", ns::DATA_FORMS))
            .map(Element::content)
            .collect();
        if name == FORM_TYPE {
            if field.attribute("type") != Some("hidden") {
                continue;
            }
            values.dedup();
            match (&values[..], &form_type) {
                ([value], None) => form_type = Some(value.clone().into_owned()),
                _ => return None,
            }
            continue;
        }
        values.sort_unstable();
        let mut text = format!("{name}<");
        for value in &values {
            text.push_str(value);
            text.push('<');
        }
        fields.push((name, text));
    }
    let Some(form_type) = form_type else { return Some(None) };
    fields.sort_unstable();
    let mut text = format!("{form_type}<");
    fields.iter().for_each(|(_, field)| text.push_str(field));
    Some(Some((form_type, text)))
}

/// The nodes that a client wants to hear of, sorted, each once.
pub fn interests(info: &Element) -> Vec<&str> {
    let features = named(info, "feature").filter_map(|feature| feature.attribute("var"));
    let mut nodes: Vec<&str> =
        features.filter_map(|feature| feature.strip_suffix(NOTIFY)).filter(|node| !node.is_empty()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(inside: &str) -> Element {
        let text = format!("<query xmlns='http://jabber.org/protocol/disco#info'>{inside}</query>");
        Element::parse(text.as_bytes()).unwrap()
    }

    fn ver(inside: &str) -> Option<String> {
        hash_of(&info(inside)).map(|hash| STANDARD.encode(hash))
    }

    /// §5.2 and §5.3.
    #[test]
    fn the_hashes_are_those_of_the_examples_in_the_xep() {
        let features = ["disco#items", "disco#info", "muc", "caps"]
            .map(|name| format!("<feature var='http://jabber.org/protocol/{name}'/>"))
            .concat();
        let simple = format!("<identity category='client' type='pc' name='Exodus 0.9.1'/>{features}");
        assert_eq!(ver(&simple).as_deref(), Some("QgayPKawpkPSDYmwT/WM94uAlu0="));
        let field = |name: &str, values: &[&str]| {
            let values: String = values.iter().map(|value| format!("<value>{value}</value>")).collect();
            format!("<field var='{name}'>{values}</field>")
        };
        let complex = format!(
            "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>\
             <identity xml:lang='el' category='client' name='\u{3a8} 0.11' type='pc'/>{features}\
             <x xmlns='jabber:x:data' type='result'>\
             <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>\
             {}{}{}{}{}</x>",
            field("ip_version", &["ipv4", "ipv6"]),
            field("os", &["Mac"]),
            field("os_version", &["10.5.1"]),
            field("software", &["Psi"]),
            field("software_version", &["0.11"]),
        );
        assert_eq!(ver(&complex).as_deref(), Some("q07IKJEyjvHSyhy//CH0CxmKi8w="));
    }

    /// §5.4.
    #[test]
    fn an_ill_formed_answer_has_no_hash() {
        let form = "<x xmlns='jabber:x:data' type='result'>\
            <field var='FORM_TYPE' type='hidden'><value>urn:f</value></field></x>";
        for inside in [
            "<feature var='a'/><feature var='a'/>".to_owned(),
            "<identity category='a' type='b'/><identity category='a' type='b'/>".to_owned(),
            format!("{form}{form}"),
            form.replace("<value>urn:f</value>", "<value>urn:f</value><value>urn:g</value>"),
        ] {
            assert_eq!(ver(&inside), None, "{inside}");
        }
        let untyped = "<feature var='a'/><x xmlns='jabber:x:data' type='result'><field var='b'/></x>";
        assert_eq!(ver(untyped), ver("<feature var='a'/>"), "a form without a type counts for nothing");
    }

    #[test]
    fn interests_are_the_nodes_behind_features_that_say_so() {
        let info = info(
            "<feature var='urn:b+notify'/><feature var='+notify'/><feature var='urn:a+notify'/>\
             <feature var='urn:c'/><feature var='urn:a+notify'/>",
        );
        assert_eq!(interests(&info), ["urn:a", "urn:b"]);
    }

    #[test]
    fn only_a_complete_announcement_with_a_hash_that_can_be_checked_counts() {
        let read = |attributes: &str| {
            let text =
                format!("<presence><c xmlns='http://jabber.org/protocol/caps' {attributes}/></presence>");
            Announced::read(&Element::parse(text.as_bytes()).unwrap())
        };
        let announced =
            read("hash='sha-1' node='http://c.example' ver='QgayPKawpkPSDYmwT/WM94uAlu0='").unwrap();
        assert_eq!(announced.node, "http://c.example#QgayPKawpkPSDYmwT/WM94uAlu0=");
        for attributes in [
            "node='n' ver='1.0'",
            "hash='sha-1' node='n' ver='1.0'",
            "hash='sha-1' ver='QgayPKawpkPSDYmwT/WM94uAlu0='",
            "hash='sha-256' node='n' ver='QgayPKawpkPSDYmwT/WM94uAlu0='",
            "hash='sha-1' node='n' ver='QgayPKawpkPSDYmwT/WM94uA'",
        ] {
            assert_eq!(read(attributes), None, "{attributes}");
        }
    }
}
