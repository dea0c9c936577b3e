//! Elements of an export, as text that is kept here.

use roxmltree::Node;

/// Elements in one another at most in what is taken over, as a server takes them from its clients unless it is told otherwise
/// (`limits.depth`). They are written by a function that calls itself.
pub(super) const DEPTH_MAX: usize = 64;

pub(in crate::migrate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
}

/// The elements in another.
pub(in crate::migrate) fn elements<'a, 'i>(parent: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    parent.children().filter(Node::is_element)
}

/// Whether an element has more than [`DEPTH_MAX`] elements in one another, itself among them.
pub(in crate::migrate) fn lies_too_deep(top: Node<'_, '_>) -> bool {
    let (mut node, mut depth) = (top, 1);
    loop {
        if let Some(child) = node.first_element_child() {
            (node, depth) = (child, depth + 1);
            if depth > DEPTH_MAX {
                return true;
            }
            continue;
        }
        while node != top && node.next_sibling_element().is_none() {
            let Some(parent) = node.parent_element() else { return false };
            (node, depth) = (parent, depth - 1);
        }
        match node.next_sibling_element() {
            Some(next) if node != top => node = next,
            _ => return false,
        }
    }
}

/// What is said of such an element.
pub(in crate::migrate) fn too_deep(what: &str) -> String {
    format!("{what} is left out: more than {DEPTH_MAX} elements of it lie in one another")
}

/// An element by itself, with the namespaces that it has, and no prefixes.
pub(in crate::migrate) fn serialised(node: Node<'_, '_>) -> String {
    let mut out = String::new();
    write(node, "", &mut out);
    out
}

/// Writes an element into another of this namespace.
pub(in crate::migrate) fn write(node: Node<'_, '_>, outer: &str, out: &mut String) {
    let tag = node.tag_name();
    let space = tag.namespace().unwrap_or_default();
    out.push_str(&format!("<{}", tag.name()));
    if space != outer || outer.is_empty() {
        out.push_str(&format!(" xmlns='{}'", escaped(space)));
    }
    for attribute in node.attributes() {
        let prefix = match attribute.namespace() {
            None => "",
            Some("http://www.w3.org/XML/1998/namespace") => "xml:",
            // Nothing that is stored here knows others.
            Some(_) => continue,
        };
        out.push_str(&format!(" {prefix}{}='{}'", attribute.name(), escaped(attribute.value())));
    }
    out.push('>');
    for child in node.children() {
        if child.is_element() {
            write(child, space, out);
        } else if let Some(text) = child.text().filter(|_| child.is_text()) {
            out.push_str(&escaped(text));
        }
    }
    out.push_str(&format!("</{}>", tag.name()));
}
