//! The archive of the stand-in: everything that was routed, told again on request (XEP-0313), as well as it is told to.

/// What the archive does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Archive {
    /// There is none.
    #[default]
    None,
    /// Nothing.
    Faithful,
    /// Every seventh message is not kept.
    Loses,
    /// Every seventh message is kept twice.
    Repeats,
    /// Every seventh message changes places with the one before it.
    Swaps,
    /// Every seventh message has another text.
    Alters,
    /// A page begins with the message that the one before it has ended with.
    Overlaps,
    /// Queries are refused.
    Refuses,
}

/// One account's messages, each with the other side's bare JID.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    messages: Vec<(String, String)>,
    seen: u64,
}

impl Kept {
    /// Keeps a copy of a message to or from `other`.
    pub(crate) fn keep(&mut self, behaviour: Archive, other: &str, copy: &str) {
        self.seen += 1;
        let (copy, other) = (copy.to_owned(), other.to_owned());
        if !self.seen.is_multiple_of(7) {
            self.messages.push((other, copy));
            return;
        }
        match behaviour {
            Archive::Loses => {}
            Archive::Repeats => {
                self.messages.push((other.clone(), copy.clone()));
                self.messages.push((other, copy));
            }
            Archive::Swaps => {
                // The one before it of the same conversation.
                let before =
                    self.messages.iter().rposition(|(of, _)| *of == other).unwrap_or(self.messages.len());
                self.messages.insert(before, (other, copy));
            }
            Archive::Alters => self.messages.push((other, copy.replace("<body>", "<body>not "))),
            _ => self.messages.push((other, copy)),
        }
    }

    /// The answer to a query of `id`.
    pub(crate) fn answer(&self, behaviour: Archive, id: &str, query: &str) -> String {
        if behaviour == Archive::Refuses {
            return format!(
                "<iq type='error' id='{id}'><error type='wait'><resource-constraint/></error></iq>"
            );
        }
        let value = |name: &str| {
            let start = query.find(&format!("<{name}>"))? + name.len() + 2;
            Some(&query[start..start + query[start..].find('<')?])
        };
        let with = query.find("var='with'").and_then(|at| {
            let rest = &query[at..];
            let start = rest.find("<value>")? + 7;
            Some(&rest[start..start + rest[start..].find('<')?])
        });
        let found: Vec<(usize, &String)> = self
            .messages
            .iter()
            .enumerate()
            .filter(|(_, (other, _))| with.is_none_or(|with| with == other))
            .map(|(index, (_, copy))| (index, copy))
            .collect();
        let max: usize = value("max").and_then(|max| max.parse().ok()).unwrap_or(50);
        let (page, complete) = if query.contains("<before/>") {
            (&found[found.len().saturating_sub(max)..], found.len() <= max)
        } else {
            let after = value("after").and_then(|after| after.parse::<usize>().ok());
            let from = after.map_or(0, |after| found.partition_point(|(index, _)| *index <= after));
            let from = if behaviour == Archive::Overlaps { from.saturating_sub(1) } else { from };
            let to = found.len().min(from + max);
            (&found[from..to], to == found.len())
        };
        let mut out = String::new();
        for (index, copy) in page {
            out += &format!(
                "<message><result xmlns='urn:xmpp:mam:2' queryid='{id}' id='{index}'><forwarded \
                 xmlns='urn:xmpp:forward:0'>{copy}</forwarded></result></message>"
            );
        }
        let ends = match (page.first(), page.last()) {
            (Some((first, _)), Some((last, _))) => format!("<first>{first}</first><last>{last}</last>"),
            _ => String::new(),
        };
        out + &format!(
            "<iq type='result' id='{id}'><fin xmlns='urn:xmpp:mam:2' complete='{complete}'><set>{ends}</set></fin></iq>"
        )
    }
}
