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

/// What separates the parts of the text that is hashed.
const SEPARATOR: char = '<';

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

/// An answer to disco as the text of which its hash is made (§5.1).
///
/// Other answers have the same text, and so the same hash: names are not escaped, and nothing in the text says where the features
/// end and the forms begin. So what is wanted of an answer whose hash is known has to be read out of the text. Read out of the
/// elements, it could be something else for each answer, and the first client to answer would choose for all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    text: String,
}

impl Described {
    /// Reads an answer; `None` for one that is ill-formed (§5.4), which nobody may trust.
    pub fn read(info: &Element) -> Option<Described> {
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
            text.push(SEPARATOR);
        }
        forms.iter().for_each(|(_, form)| text.push_str(form));
        Some(Described { text })
    }

    /// Its hash.
    pub fn hash(&self) -> [u8; HASH_BYTES] {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.text.as_bytes());
        let mut hash = [0; HASH_BYTES];
        hash.copy_from_slice(digest.as_ref());
        hash
    }

    /// The nodes that a client wants to hear of, sorted, each once.
    pub fn interests(&self) -> Vec<&str> {
        let parts = self.text.split(SEPARATOR);
        let mut nodes: Vec<&str> =
            parts.filter_map(|part| part.strip_suffix(NOTIFY)).filter(|node| !node.is_empty()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn info(inside: &str) -> Element {
        let text = format!("<query xmlns='http://jabber.org/protocol/disco#info'>{inside}</query>");
        Element::parse(text.as_bytes()).unwrap()
    }

    fn ver(inside: &str) -> Option<String> {
        Described::read(&info(inside)).map(|described| STANDARD.encode(described.hash()))
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
        let features = "<feature var='urn:b+notify'/><feature var='+notify'/><feature var='urn:a+notify'/>\
             <feature var='urn:c'/>";
        assert_eq!(Described::read(&info(features)).unwrap().interests(), ["urn:a", "urn:b"]);
    }

    /// An answer that was put together otherwise and has the hash of an honest one must not say anything else.
    #[test]
    fn answers_with_one_hash_want_the_same_nodes() {
        let identity = "<identity category='client' type='pc' name='C'/>";
        let features = ["urn:a", "urn:b+notify", "urn:c", "urn:d+notify"];
        let feature = |var: &str| format!("<feature var='{var}'/>");
        let honest = format!("{identity}{}", features.map(feature).concat());
        let honest = Described::read(&info(&honest)).unwrap();
        assert_eq!(honest.interests(), ["urn:b", "urn:d"]);
        let in_one_name = format!("{identity}{}", feature(&features.join("&lt;")));
        let in_a_form = format!(
            "{identity}{}<x xmlns='jabber:x:data' type='result'>\
             <field var='FORM_TYPE' type='hidden'><value>urn:b+notify</value></field>\
             <field var='urn:c'><value>urn:d+notify</value></field></x>",
            feature("urn:a")
        );
        let in_an_identity = format!(
            "<identity category='client' type='pc' name='C&lt;urn:a&lt;urn:b+notify'/>{}{}",
            feature("urn:c"),
            feature("urn:d+notify")
        );
        for forged in [in_one_name, in_a_form, in_an_identity] {
            let described = Described::read(&info(&forged)).unwrap();
            assert_eq!(described.hash(), honest.hash(), "{forged}");
            assert_eq!(described.interests(), honest.interests(), "{forged}");
        }
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
