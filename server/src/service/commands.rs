//! Ad-hoc commands of the domain (XEP-0050): settings of an account for which no other extension has a place, so that clients
//! can show them as forms. There is one, with one step.

use whimbrel_storage::directory::{MayAdd, Settings};

use crate::env::Env;
use crate::proto::commands::{self, Action, CommandRequest};
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::forms::{Field, FieldType, Form, FormError, Submission};
use crate::proto::ns;
use crate::service::table::ServerNodes;
use crate::service::{Answers, Committed, Reply, Request, Scopes, Service, unreadable};
use crate::stanza::Type;
use crate::user::actors::{Actors, Effects};
use crate::user::writes::Area;
use crate::xml::Element;

/// Answers and lists the commands.
pub static SERVICE: Service = Service {
    name: "commands",
    // The one command is about groups.
    enabled: |config| config.rooms.enabled,
    answers: &[Answers {
        element: "command",
        namespace: ns::COMMANDS,
        scopes: Scopes::SERVER,
        writes: Area::Alone,
        handle,
    }],
    features: &[(ns::COMMANDS, Scopes::SERVER)],
    server_nodes: Some(ServerNodes { info, items }),
    ..Service::NOTHING
};

/// The name of the command, for people.
const NAME: &str = "Who may add you to groups";

/// The field of the form.
const ADD: &str = "add";

const OPTIONS: [(&str, Option<MayAdd>, &str); 4] = [
    ("default", None, "As this server has it for everybody"),
    ("everyone", Some(MayAdd::Everyone), "Everyone"),
    ("contacts", Some(MayAdd::Contacts), "My contacts; others invite me"),
    ("nobody", Some(MayAdd::Nobody), "Nobody: I want to be invited"),
];

/// §3.1, §3.2: what the list of commands is, and what a command is.
fn info(node: &str) -> Option<Element> {
    let (typ, name, features): (_, _, &[&str]) = match node {
        ns::COMMANDS => ("command-list", "Commands", &[]),
        ns::GROUP_SETTINGS => ("command-node", NAME, &[ns::COMMANDS, ns::DATA_FORMS]),
        _ => return None,
    };
    let identity = Element::new("identity", ns::DISCO_INFO);
    let identity = identity.attr("category", "automation").attr("type", typ).attr("name", name);
    let features = features.iter().map(|name| Element::new("feature", ns::DISCO_INFO).attr("var", *name));
    let query = Element::new("query", ns::DISCO_INFO).attr("node", node);
    Some(query.child(identity).children(features))
}

/// §2.2: the commands.
fn items(node: &str, domain: &str) -> Option<Element> {
    let query = Element::new("query", ns::DISCO_ITEMS).attr("node", node);
    match node {
        ns::COMMANDS => {
            let item = Element::new("item", ns::DISCO_ITEMS).attr("jid", domain);
            Some(query.child(item.attr("node", ns::GROUP_SETTINGS).attr("name", NAME)))
        }
        ns::GROUP_SETTINGS => Some(query),
        _ => None,
    }
}

fn handle(actors: &mut Actors, env: &Env, fx: &mut Effects, request: &Request) -> Reply {
    if request.typ != Type::Set {
        return StanzaCondition::BadRequest.into();
    }
    let command = match CommandRequest::read(&request.query) {
        Ok(command) if command.node == ns::GROUP_SETTINGS => command,
        Ok(_) => return StanzaCondition::ItemNotFound.into(),
        Err(error) => return Reply::Error(error),
    };
    let new_session = new_session(env);
    match (command.action, command.form) {
        (Action::Cancel, _) => Reply::Result(command.canceled(&new_session)),
        (Action::Execute, None) => match env.shared.directory.settings(&request.from_local) {
            Ok(settings) => Reply::Result(command.to_fill_in(form(settings), &new_session)),
            Err(error) => unreadable(&request.from_local, &error),
        },
        (Action::Complete, None) => Reply::Error(commands::bad_payload()),
        (Action::Execute | Action::Complete, Some(form)) => match read(form) {
            Ok(Some(settings)) => {
                let done = command.completed("This holds for groups from now on.", &new_session);
                set(actors, env, fx, request, settings, done)
            }
            Ok(None) => Reply::Result(command.canceled(&new_session)),
            Err(error) => Reply::Error(error),
        },
    }
}

/// The id of a session: nothing is remembered under it, so nobody needs to be kept from guessing it.
fn new_session(env: &Env) -> String {
    format!("{:016x}", u64::from_le_bytes(env.shared.chance.bytes()))
}

fn form(settings: Settings) -> Form {
    let now = OPTIONS.iter().find(|(_, may, _)| *may == settings.groups_add).map_or("", |option| option.0);
    let field = Field::new(FieldType::ListSingle, ADD).label("Who may put you into private groups");
    let field = OPTIONS.iter().fold(field.value(now), |field, (name, _, label)| field.option(label, name));
    Form::to_fill_in(ns::GROUP_SETTINGS)
        .title(NAME)
        .instructions("Those who may not put you into a group invite you to it instead.")
        .field(field)
}

/// What a form sets; `None`: it was cancelled.
fn read(form: &Element) -> Result<Option<Settings>, StanzaError> {
    let mut fields = match Submission::read_implied(form, ns::GROUP_SETTINGS)? {
        Submission::Submitted(fields) => fields,
        Submission::Cancelled => return Ok(None),
    };
    let options = OPTIONS.map(|(name, may, _)| (name, may));
    let groups_add = fields.choice(ADD, &options)?.ok_or_else(|| FormError::Missing(ADD.to_owned()))?;
    fields.finish()?;
    Ok(Some(Settings { groups_add }))
}

fn set(
    actors: &mut Actors,
    env: &Env,
    fx: &mut Effects,
    request: &Request,
    settings: Settings,
    done: Element,
) -> Reply {
    let account = request.from_local.clone();
    request.commit(actors, env, fx, move |transaction| {
        Ok(match transaction.set_settings(&account, settings)? {
            true => Ok(Committed { result: Some(done), after: None }),
            // Removed in the meantime.
            false => Err(StanzaCondition::ItemNotFound.into()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submit(fields: &str) -> Result<Option<Settings>, StanzaError> {
        let text = format!("<x xmlns='jabber:x:data' type='submit'>{fields}</x>");
        read(&Element::parse(text.as_bytes()).unwrap())
    }

    fn one(value: &str) -> String {
        format!("<field var='add'><value>{value}</value></field>")
    }

    #[test]
    fn every_option_is_one_of_the_directory_and_reads_back() {
        for (name, may, _) in OPTIONS {
            let settings = Settings { groups_add: may };
            assert_eq!(settings.texts()[0].1, name);
            assert_eq!(submit(&one(name)), Ok(Some(settings)));
            let mut sent = form(settings).into_element();
            sent.set_attribute("type", "submit");
            assert_eq!(read(&sent), Ok(Some(settings)), "the form as it comes");
        }
    }

    #[test]
    fn a_form_without_an_answer_is_refused() {
        for fields in ["", &one("somebody"), &format!("{}<field var='b'/>", one("nobody"))] {
            let error = submit(fields).expect_err(fields);
            assert_eq!(error.condition, StanzaCondition::NotAcceptable, "{fields}");
        }
        let cancelled = Element::parse(b"<x xmlns='jabber:x:data' type='cancel'/>").unwrap();
        assert_eq!(read(&cancelled), Ok(None));
    }
}
