//! Ad-hoc commands (XEP-0050): what is asked of one, and what is answered.
//!
//! The commands of this server have one step, a form to fill in, so nothing has to be remembered between two requests: a
//! session's id is repeated to the client and means nothing.

use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::forms::{self, Form};
use crate::proto::ns;
use crate::xml::Element;

/// Most bytes of the id of a session.
const SESSION_BYTES_MAX: usize = 128;

/// What a client does with a command.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It begins, or goes on with the action that is usual.
    Execute,
    /// It has filled in the last form.
    Complete,
    /// It does not want to any more.
    Cancel,
}

/// A request to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRequest<'a> {
    /// Which command.
    pub node: &'a str,
    /// The session that the client says it has.
    pub session: Option<&'a str>,
    /// What it does.
    pub action: Action,
    /// The form that it has filled in.
    pub form: Option<&'a Element>,
}

impl<'a> CommandRequest<'a> {
    /// Reads `<command/>` of a set.
    ///
    /// # Errors
    /// §4.4: `bad-request` with the condition that says what is wrong.
    pub fn read(command: &'a Element) -> Result<CommandRequest<'a>, StanzaError> {
        let node = command.attribute("node").filter(|node| !node.is_empty()).ok_or_else(bad)?;
        let session = command.attribute("sessionid").filter(|session| !session.is_empty());
        if session.is_some_and(|session| session.len() > SESSION_BYTES_MAX) {
            return Err(bad().with_application("bad-sessionid", ns::COMMANDS));
        }
        let action = match command.attribute("action") {
            None | Some("execute") => Action::Execute,
            // The one form is also the last one.
            Some("complete" | "next") => Action::Complete,
            Some("cancel") => Action::Cancel,
            Some("prev") => return Err(bad().with_application("bad-action", ns::COMMANDS)),
            Some(_) => return Err(bad().with_application("malformed-action", ns::COMMANDS)),
        };
        Ok(CommandRequest { node, session, action, form: forms::find(command) })
    }

    /// An answer to it. `new_session` is the id of a session that begins with it.
    fn answer(&self, status: &'static str, new_session: &str) -> Element {
        Element::new("command", ns::COMMANDS)
            .attr("node", self.node)
            .attr("sessionid", self.session.unwrap_or(new_session))
            .attr("status", status)
    }

    /// The form is to be filled in.
    pub fn to_fill_in(&self, form: Form, new_session: &str) -> Element {
        let actions = Element::new("actions", ns::COMMANDS).attr("execute", "complete");
        let actions = actions.child(Element::new("complete", ns::COMMANDS));
        self.answer("executing", new_session).child(actions).child(form.into_element())
    }

    /// It is done; `note` says what.
    pub fn completed(&self, note: &str, new_session: &str) -> Element {
        let note = Element::new("note", ns::COMMANDS).attr("type", "info").text(note);
        self.answer("completed", new_session).child(note)
    }

    /// The client did not want to.
    pub fn canceled(&self, new_session: &str) -> Element {
        self.answer("canceled", new_session)
    }
}

fn bad() -> StanzaError {
    StanzaCondition::BadRequest.into()
}

/// The form that has to be there is not.
pub fn bad_payload() -> StanzaError {
    bad().with_application("bad-payload", ns::COMMANDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(attributes: &str) -> Result<(Action, Option<String>), StanzaError> {
        let text = format!("<command xmlns='{}' {attributes}/>", ns::COMMANDS);
        let command = Element::parse(text.as_bytes()).unwrap();
        CommandRequest::read(&command).map(|read| (read.action, read.session.map(str::to_owned)))
    }

    #[test]
    fn a_request_says_what_it_does_and_with_which_session() {
        let wrong = |name| Err(bad().with_application(name, ns::COMMANDS));
        let long = format!("node='n' sessionid='{}'", "x".repeat(SESSION_BYTES_MAX + 1));
        for (attributes, expected) in [
            ("node='n'", Ok((Action::Execute, None))),
            ("node='n' action='execute' sessionid=''", Ok((Action::Execute, None))),
            ("node='n' action='complete' sessionid='s'", Ok((Action::Complete, Some("s".to_owned())))),
            ("node='n' action='next' sessionid='s'", Ok((Action::Complete, Some("s".to_owned())))),
            ("node='n' action='cancel'", Ok((Action::Cancel, None))),
            ("node='n' action='prev'", wrong("bad-action")),
            ("node='n' action='dance'", wrong("malformed-action")),
            (long.as_str(), wrong("bad-sessionid")),
            ("node=''", Err(bad())),
            ("", Err(bad())),
        ] {
            assert_eq!(read(attributes), expected, "{attributes}");
        }
    }

    #[test]
    fn an_answer_repeats_the_session_or_begins_one() {
        for (attributes, session) in [("node='n' sessionid='s'", "s"), ("node='n'", "new")] {
            let text = format!("<command xmlns='{}' {attributes}/>", ns::COMMANDS);
            let command = Element::parse(text.as_bytes()).unwrap();
            let request = CommandRequest::read(&command).unwrap();
            for (answer, status) in [
                (request.to_fill_in(Form::to_fill_in("urn:f"), "new"), "executing"),
                (request.completed("done", "new"), "completed"),
                (request.canceled("new"), "canceled"),
            ] {
                assert_eq!(answer.attribute("sessionid"), Some(session));
                assert_eq!((answer.attribute("node"), answer.attribute("status")), (Some("n"), Some(status)));
            }
        }
    }
}
