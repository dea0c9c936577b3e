//! Result sets (XEP-0059): which page of a long list somebody asks for, and where in the list a page lies.

use whimbrel_storage::jid::PART_BYTES_MAX;

use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::ns;
use crate::xml::Element;

/// Bytes that an id may have by which a page is asked for: those of the longest address.
pub const ID_BYTES_MAX: usize = 3 * PART_BYTES_MAX + 2;

/// Where the page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first item (§2.1).
    First,
    /// Behind the item with this id (§2.2).
    After(String),
    /// It ends before the item with this id (§2.3).
    Before(String),
    /// It ends with the last item (§2.5).
    Last,
    /// With the item of this number, counted from 0 (§2.4).
    Index(u64),
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Items that it wants at most; 0: only how many there are (§2.6).
    pub max: usize,
    /// Where they begin.
    pub start: Start,
}

/// How many items a page has.
#[derive(Copy, Clone, Debug)]
pub struct Sizes {
    /// When the client names no number.
    pub default: usize,
    /// At most, whatever it names (§2.1: fewer than asked for may come).
    pub max: usize,
}

impl PageRequest {
    /// Reads `<set/>` of result sets.
    ///
    /// # Errors
    /// `bad-request` for what contradicts itself or is no number, `item-not-found` for an id that no item can have.
    pub fn read(set: &Element, sizes: Sizes) -> Result<PageRequest, StanzaError> {
        let (mut max, mut start) = (None, None);
        for child in set.elements().filter(|child| child.namespace() == ns::RSM) {
            let here = match child.name() {
                "max" if max.is_none() => {
                    max = Some(number(child, "max")?);
                    continue;
                }
                "max" => return Err(bad("there is more than one <max/>")),
                "index" => Start::Index(number(child, "index")?),
                "after" => id(child)?.map_or(Start::First, Start::After),
                "before" => id(child)?.map_or(Start::Last, Start::Before),
                _ => continue,
            };
            if start.replace(here).is_some() {
                return Err(bad("only one of <before/>, <after/> and <index/> can be asked for"));
            }
        }
        let max = max.map_or(sizes.default, |max| usize::try_from(max).unwrap_or(usize::MAX));
        Ok(PageRequest { max: max.min(sizes.max), start: start.unwrap_or(Start::First) })
    }

    /// The request in a query, if it has one.
    ///
    /// # Errors
    /// As [`PageRequest::read`].
    pub fn find(query: &Element, sizes: Sizes) -> Result<Option<PageRequest>, StanzaError> {
        query.find("set", ns::RSM).map(|set| PageRequest::read(set, sizes)).transpose()
    }

    /// The page of a whole list, whose items have the ids that `id` tells: the items, and what is said of them.
    ///
    /// # Errors
    /// `item-not-found` when there is no item with the id, or none at the index.
    pub fn of_list<'a, T>(
        &self,
        list: &'a [T],
        id: impl Fn(&'a T) -> &'a str,
    ) -> Result<(&'a [T], Page), StanzaError> {
        let place = |wanted: &str| list.iter().position(|item| id(item) == wanted).ok_or_else(not_found);
        let (start, end) = match &self.start {
            Start::First => (0, self.max.min(list.len())),
            Start::After(id) => {
                let start = place(id)? + 1;
                (start, start.saturating_add(self.max).min(list.len()))
            }
            Start::Before(id) => {
                let end = place(id)?;
                (end.saturating_sub(self.max), end)
            }
            Start::Last => (list.len().saturating_sub(self.max), list.len()),
            Start::Index(index) => {
                let start = usize::try_from(*index).ok().filter(|start| *start < list.len());
                let start = start.ok_or_else(not_found)?;
                (start, start.saturating_add(self.max).min(list.len()))
            }
        };
        let items = &list[start..end];
        let bounds = items.first().zip(items.last());
        let page = Page {
            bounds: bounds.map(|(first, last)| (id(first).to_owned(), id(last).to_owned())),
            index: bounds.map(|_| start as u64),
            count: Some(list.len() as u64),
        };
        Ok((items, page))
    }
}

fn bad(text: &'static str) -> StanzaError {
    StanzaError::from(StanzaCondition::BadRequest).with_text(text)
}

/// The answer for an id or an index at which there is nothing (§2.2, §2.4).
pub fn not_found() -> StanzaError {
    StanzaError::from(StanzaCondition::ItemNotFound)
        .with_text("there is no item at the beginning of this page")
}

/// A number that is not negative; more than fits is as much as fits.
fn number(child: &Element, name: &'static str) -> Result<u64, StanzaError> {
    let content = child.content();
    let digits = content.trim();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let text = match name {
            "max" => "<max/> is not a number of items",
            _ => "<index/> is not the number of an item",
        };
        return Err(bad(text));
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

/// An id; `None`: an empty one.
fn id(child: &Element) -> Result<Option<String>, StanzaError> {
    let id = child.content();
    if id.len() > ID_BYTES_MAX {
        return Err(not_found());
    }
    Ok(Some(id.into_owned()).filter(|id| !id.is_empty()))
}

/// Where in the list the items of an answer lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The ids of the first and the last item; `None` when there are no items.
    pub bounds: Option<(String, String)>,
    /// The number of the first item, counted from 0, if it is known.
    pub index: Option<u64>,
    /// How many items the whole list has, if it is known.
    pub count: Option<u64>,
}

impl Page {
    /// `<set/>`
    pub fn to_element(&self) -> Element {
        let mut set = Element::new("set", ns::RSM);
        if let Some((first, last)) = &self.bounds {
            let index = self.index.map(|index| index.to_string());
            set.push(Element::new("first", ns::RSM).attr_opt("index", index).text(first));
            set.push(Element::new("last", ns::RSM).text(last));
        }
        if let Some(count) = self.count {
            set.push(Element::new("count", ns::RSM).text(count.to_string()));
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { default: 50, max: 100 };

    fn read(inside: &str) -> Result<PageRequest, StanzaCondition> {
        let set = format!("<set xmlns='http://jabber.org/protocol/rsm'>{inside}</set>");
        let set = Element::parse(set.as_bytes()).unwrap();
        PageRequest::read(&set, SIZES).map_err(|error| error.condition)
    }

    #[test]
    fn a_request_names_a_page_or_gets_the_error_of_the_xep() {
        let page = |max, start| Ok(PageRequest { max, start });
        let (bad, none) = (StanzaCondition::BadRequest, StanzaCondition::ItemNotFound);
        let long = "i".repeat(ID_BYTES_MAX + 1);
        let table = [
            ("", page(50, Start::First)),
            ("<max>10</max>", page(10, Start::First)),
            ("<max> 10\n</max>", page(10, Start::First)),
            ("<max>0</max>", page(0, Start::First)),
            ("<max>101</max>", page(100, Start::First)),
            ("<max>99999999999999999999999999</max>", page(100, Start::First)),
            ("<max>1</max><after>a</after>", page(1, Start::After("a".into()))),
            ("<after/>", page(50, Start::First)),
            ("<before>a&amp;b</before>", page(50, Start::Before("a&b".into()))),
            ("<before/>", page(50, Start::Last)),
            ("<before></before><max>2</max>", page(2, Start::Last)),
            ("<index>0</index>", page(50, Start::Index(0))),
            ("<index>371</index><max>3</max>", page(3, Start::Index(371))),
            ("<index>99999999999999999999999999</index>", page(50, Start::Index(u64::MAX))),
            ("<after xmlns='urn:other'>a</after><count>7</count>", page(50, Start::First)),
            ("<max/>", Err(bad)),
            ("<max>-1</max>", Err(bad)),
            ("<max>+1</max>", Err(bad)),
            ("<max>ten</max>", Err(bad)),
            ("<max>1</max><max>1</max>", Err(bad)),
            ("<index/>", Err(bad)),
            ("<index>x</index>", Err(bad)),
            ("<before/><after>a</after>", Err(bad)),
            ("<after>a</after><after>a</after>", Err(bad)),
            ("<index>1</index><before/>", Err(bad)),
            (&format!("<after>{long}</after>"), Err(none)),
            (&format!("<before>{long}</before>"), Err(none)),
        ];
        for (inside, expected) in table {
            assert_eq!(read(inside), expected, "{inside:.80}");
        }
    }

    #[test]
    fn a_page_of_a_list_is_the_one_that_was_asked_for() {
        let list = ["a", "b", "c", "d", "e"];
        let page = |max, start: Start| {
            let found = PageRequest { max, start }.of_list(&list, |item| item);
            found.map(|(items, page)| (items.concat(), page.index)).map_err(|error| error.condition)
        };
        let id = String::from;
        let none = Err(StanzaCondition::ItemNotFound);
        let table = [
            (page(2, Start::First), Ok((id("ab"), Some(0)))),
            (page(9, Start::First), Ok((id("abcde"), Some(0)))),
            (page(0, Start::First), Ok((id(""), None))),
            (page(2, Start::After(id("b"))), Ok((id("cd"), Some(2)))),
            (page(usize::MAX, Start::After(id("d"))), Ok((id("e"), Some(4)))),
            (page(2, Start::After(id("e"))), Ok((id(""), None))),
            (page(2, Start::After(id("x"))), none.clone()),
            (page(2, Start::Before(id("d"))), Ok((id("bc"), Some(1)))),
            (page(9, Start::Before(id("b"))), Ok((id("a"), Some(0)))),
            (page(2, Start::Before(id("a"))), Ok((id(""), None))),
            (page(2, Start::Before(id("x"))), none.clone()),
            (page(2, Start::Last), Ok((id("de"), Some(3)))),
            (page(0, Start::Last), Ok((id(""), None))),
            (page(2, Start::Index(4)), Ok((id("e"), Some(4)))),
            (page(2, Start::Index(5)), none.clone()),
            (page(2, Start::Index(u64::MAX)), none),
        ];
        for (at, (found, expected)) in table.into_iter().enumerate() {
            assert_eq!(found, expected, "row {at}");
        }
        let (_, whole) = PageRequest { max: 2, start: Start::Index(1) }.of_list(&list, |item| item).unwrap();
        let bounds = Some((id("b"), id("c")));
        assert_eq!(whole, Page { bounds, index: Some(1), count: Some(5) });
    }

    #[test]
    fn a_set_tells_what_is_known_of_the_page() {
        let written = |page: &Page| String::from_utf8(page.to_element().to_bytes()).unwrap();
        let bounds = Some(("a<".to_owned(), "z".to_owned()));
        let set = |inside: &str| format!("<set xmlns=\"http://jabber.org/protocol/rsm\">{inside}</set>");
        let table = [
            (
                Page { bounds: bounds.clone(), index: Some(3), count: Some(800) },
                set("<first index=\"3\">a&lt;</first><last>z</last><count>800</count>"),
            ),
            (Page { bounds, index: None, count: None }, set("<first>a&lt;</first><last>z</last>")),
            (Page { bounds: None, index: Some(3), count: Some(0) }, set("<count>0</count>")),
        ];
        for (page, expected) in table {
            assert_eq!(written(&page), expected);
        }
        let empty = Element::parse(&Page::default().to_element().to_bytes()).unwrap();
        assert!(empty.is("set", ns::RSM) && empty.nodes().is_empty());
    }
}
