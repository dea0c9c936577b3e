//! The configuration of a node as a form (XEP-0060 §8.2), and the same fields as conditions of a publication (§7.1.5).

use whimbrel_storage::directory::pubsub::{AccessModel, NodeConfig, NodeFlags, PublishModel, SendLast};

use super::error;
use crate::proto::errors::{StanzaCondition, StanzaError};
use crate::proto::forms::{Field, FieldType, Form, FormError, Submission, Submitted};
use crate::proto::ns;
use crate::xml::Element;

/// Most bytes of a title, a namespace, or the name of a group.
pub const TEXT_BYTES_MAX: usize = 1023;

/// Most groups of a roster that one node names.
pub const GROUPS_MAX: usize = 64;

/// Access models by their names.
pub const ACCESS_MODELS: [(&str, AccessModel); 5] = [
    ("open", AccessModel::Open),
    ("presence", AccessModel::Presence),
    ("roster", AccessModel::Roster),
    ("authorize", AccessModel::Authorize),
    ("whitelist", AccessModel::Whitelist),
];

/// To whom a node belongs: that decides what it can be configured to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// To an account.
    Account,
    /// To no account: there are no presence and no roster that could let somebody in.
    Service,
}

impl Whose {
    /// Whether a node can have an access model.
    pub fn has(self, model: AccessModel) -> bool {
        self == Whose::Account || !matches!(model, AccessModel::Presence | AccessModel::Roster)
    }
}

const PUBLISH_MODELS: [(&str, PublishModel); 3] = [
    ("publishers", PublishModel::Publishers),
    ("subscribers", PublishModel::Subscribers),
    ("open", PublishModel::Open),
];

const SEND_LAST: [(&str, SendLast); 3] = [
    ("never", SendLast::Never),
    ("on_sub", SendLast::OnSubscription),
    ("on_sub_and_presence", SendLast::OnPresence),
];

const FLAGS: [(&str, &str, NodeFlags); 5] = [
    ("pubsub#persist_items", "Keep items", NodeFlags::PERSIST),
    ("pubsub#deliver_payloads", "Send what is published with notifications", NodeFlags::PAYLOADS),
    ("pubsub#notify_retract", "Tell of retracted items", NodeFlags::NOTIFY_RETRACT),
    ("pubsub#notify_delete", "Tell that the node is deleted", NodeFlags::NOTIFY_DELETE),
    ("pubsub#notify_config", "Tell of a new configuration", NodeFlags::NOTIFY_CONFIG),
];

/// Fields of XEP-0060 §16.4.4 that this server has no choice about or does not have: they are passed over.
const PASSED_OVER: [&str; 26] = [
    "pubsub#body_xslt",
    "pubsub#children",
    "pubsub#children_association_policy",
    "pubsub#children_association_whitelist",
    "pubsub#children_max",
    "pubsub#collection",
    "pubsub#contact",
    "pubsub#dataform_xslt",
    "pubsub#deliver_notifications",
    "pubsub#description",
    "pubsub#item_expire",
    "pubsub#itemreply",
    "pubsub#language",
    "pubsub#max_payload_size",
    "pubsub#node_type",
    "pubsub#notification_type",
    "pubsub#notify_sub",
    "pubsub#presence_based_delivery",
    "pubsub#purge_offline",
    "pubsub#replyroom",
    "pubsub#replyto",
    "pubsub#rsm",
    "pubsub#subscribe",
    "pubsub#subscription_depth",
    "pubsub#tempsub",
    "pubsub#multi_items",
];

/// What of a configuration somebody names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChange {
    access: Option<AccessModel>,
    publish: Option<PublishModel>,
    send_last: Option<SendLast>,
    flags: Vec<(NodeFlags, bool)>,
    max_items: Option<u32>,
    title: Option<String>,
    payload_type: Option<String>,
    groups: Option<Vec<String>>,
}

impl ConfigChange {
    /// Reads a submitted form; `None`: it was cancelled.
    ///
    /// # Errors
    /// `bad-request` and `not-acceptable` for what is no such form, or has a field of a name that XEP-0060 does not know
    /// or a value that its field does not take.
    pub fn read(form: &Element) -> Result<Option<ConfigChange>, StanzaError> {
        match Submission::read_implied(form, ns::PUBSUB_CONFIG)? {
            Submission::Submitted(fields) => {
                let (change, unknown) = fields_of(fields)?;
                match unknown {
                    Some(error) => Err(error.into()),
                    None => Ok(Some(change)),
                }
            }
            Submission::Cancelled => Ok(None),
        }
    }

    /// Reads the conditions of a publication. A condition that this server does not know cannot be met.
    ///
    /// # Errors
    /// `bad-request` and `not-acceptable` for what is no such form, `conflict` with `precondition-not-met` for a condition
    /// of a name that XEP-0060 does not know.
    pub fn read_options(form: &Element) -> Result<ConfigChange, StanzaError> {
        let fields = Submission::read_implied(form, ns::PUBSUB_OPTIONS)?.submitted()?;
        match fields_of(fields)? {
            (change, None) => Ok(change),
            (_, Some(error)) => Err(error::precondition_not_met().with_text(error.to_string())),
        }
    }

    /// The configuration of such a node with this change.
    ///
    /// # Errors
    /// `not-acceptable` for more than `items_max` items, and with `unsupported-access-model` for a model that the node cannot
    /// have (§8.1.3).
    pub fn apply(
        &self,
        mut config: NodeConfig,
        items_max: u32,
        whose: Whose,
    ) -> Result<NodeConfig, StanzaError> {
        if self.access.is_some_and(|access| !whose.has(access)) {
            return Err(error::unsupported_access_model());
        }
        if let Some(max_items) = self.max_items.filter(|max| *max != u32::MAX)
            && max_items > items_max
        {
            let text =
                format!("a node keeps at most {items_max} items; \"max\" stands for as many as may be");
            return Err(StanzaError::from(StanzaCondition::NotAcceptable).with_text(text));
        }
        config.access = self.access.unwrap_or(config.access);
        config.publish = self.publish.unwrap_or(config.publish);
        config.send_last = self.send_last.unwrap_or(config.send_last);
        config.max_items = self.max_items.unwrap_or(config.max_items);
        for (flag, on) in &self.flags {
            config.flags.put(*flag, *on);
        }
        let texts = [(&self.title, &mut config.title), (&self.payload_type, &mut config.payload_type)];
        for (new, text) in texts {
            if let Some(new) = new {
                text.clone_from(new);
            }
        }
        if let Some(groups) = &self.groups {
            config.groups.clone_from(groups);
        }
        Ok(config)
    }

    /// Whether a configuration is what these conditions say, `items_max` items being as many as may be.
    pub fn agrees(&self, config: &NodeConfig, items_max: u32) -> bool {
        let count = |max: u32| if max == u32::MAX { items_max } else { max };
        self.access.is_none_or(|access| access == config.access)
            && self.publish.is_none_or(|publish| publish == config.publish)
            && self.send_last.is_none_or(|when| when == config.send_last)
            && self.flags.iter().all(|(flag, on)| config.flags.has(*flag) == *on)
            && self.max_items.is_none_or(|max| count(max) == count(config.max_items))
            && self.title.as_ref().is_none_or(|title| *title == config.title)
            && self.payload_type.as_ref().is_none_or(|typ| *typ == config.payload_type)
            && self.groups.as_ref().is_none_or(|groups| *groups == config.groups)
    }
}

/// The fields that are known, and what is wrong with the first of the others.
fn fields_of(mut fields: Submitted<'_>) -> Result<(ConfigChange, Option<FormError>), FormError> {
    let mut change = ConfigChange {
        access: fields.choice("pubsub#access_model", &ACCESS_MODELS)?,
        publish: fields.choice("pubsub#publish_model", &PUBLISH_MODELS)?,
        send_last: fields.choice("pubsub#send_last_published_item", &SEND_LAST)?,
        max_items: max_items(&mut fields)?,
        title: text(&mut fields, "pubsub#title")?,
        payload_type: text(&mut fields, "pubsub#type")?,
        ..ConfigChange::default()
    };
    for (name, _, flag) in FLAGS {
        if let Some(on) = fields.boolean(name)? {
            change.flags.push((flag, on));
        }
    }
    if let Some(groups) = fields.lines("pubsub#roster_groups_allowed") {
        let fits = groups.len() <= GROUPS_MAX && groups.iter().all(|group| group.len() <= TEXT_BYTES_MAX);
        if !fits {
            return Err(not("pubsub#roster_groups_allowed", "a list of not too many groups"));
        }
        change.groups = Some(groups.into_iter().map(std::borrow::Cow::into_owned).collect());
    }
    PASSED_OVER.into_iter().for_each(|name| drop(fields.lines(name)));
    Ok((change, fields.finish().err()))
}

fn not(field: &str, expected: &'static str) -> FormError {
    FormError::Value { field: field.to_owned(), expected }
}

fn text(fields: &mut Submitted<'_>, name: &str) -> Result<Option<String>, FormError> {
    let text = fields.text(name)?.map(std::borrow::Cow::into_owned);
    match text {
        Some(text) if text.len() > TEXT_BYTES_MAX => Err(not(name, "a shorter text")),
        text => Ok(text),
    }
}

fn max_items(fields: &mut Submitted<'_>) -> Result<Option<u32>, FormError> {
    const NAME: &str = "pubsub#max_items";
    let Some(text) = fields.text(NAME)? else { return Ok(None) };
    if text == "max" {
        return Ok(Some(u32::MAX));
    }
    match text.parse::<u32>() {
        Ok(max) if max > 0 => Ok(Some(max)),
        _ => Err(not(NAME, "a number of items from 1 on, or \"max\"")),
    }
}

fn name_of<T: Copy + PartialEq>(options: &[(&'static str, T)], value: T) -> &'static str {
    options.iter().find(|(_, option)| *option == value).map_or("", |(name, _)| name)
}

fn list<T: Copy + PartialEq>(name: &str, label: &str, options: &[(&'static str, T)], value: T) -> Field {
    let field = Field::new(FieldType::ListSingle, name).label(label);
    let field = options.iter().fold(field, |field, (option, _)| field.option(option, option));
    field.value(name_of(options, value))
}

/// The form with which such a node is configured, filled in with what it is configured to.
pub fn form(config: &NodeConfig, whose: Whose) -> Element {
    let max_items = match config.max_items {
        u32::MAX => "max".to_owned(),
        number => number.to_string(),
    };
    let groups = Field::new(FieldType::TextMulti, "pubsub#roster_groups_allowed")
        .label("Groups of the roster whose contacts may look, for the access model \"roster\"");
    let groups = config.groups.iter().fold(groups, |field, group| field.value(group));
    let models: Vec<_> = ACCESS_MODELS.into_iter().filter(|(_, model)| whose.has(*model)).collect();
    let form = Form::to_fill_in(ns::PUBSUB_CONFIG)
        .field(Field::new(FieldType::TextSingle, "pubsub#title").label("Title").value(&config.title))
        .field(
            Field::new(FieldType::TextSingle, "pubsub#type")
                .label("Namespace of what is published")
                .value(&config.payload_type),
        )
        .field(list("pubsub#access_model", "Who may look", &models, config.access));
    let form = if whose.has(AccessModel::Roster) { form.field(groups) } else { form };
    let form = form
        .field(list("pubsub#publish_model", "Who may publish", &PUBLISH_MODELS, config.publish))
        .field(list(
            "pubsub#send_last_published_item",
            "When the last item is sent",
            &SEND_LAST,
            config.send_last,
        ))
        .field(
            Field::new(FieldType::TextSingle, "pubsub#max_items")
                .label("Items that are kept; \"max\" for as many as may be")
                .value(&max_items),
        );
    let form = FLAGS.into_iter().fold(form, |form, (name, label, flag)| {
        form.field(Field::new(FieldType::Boolean, name).label(label).flag(config.flags.has(flag)))
    });
    form.into_element()
}

/// What a node is, for those who discover it (§5.4). `owners`: the bare JIDs of those who own it, if that is told.
pub fn metadata(config: &NodeConfig, created: &str, items: u64, owners: &[String]) -> Element {
    let line = |name: &str, value: &str| Field::new(FieldType::TextSingle, name).value(value);
    let mut form = Form::result(ns::PUBSUB_METADATA)
        .field(line("pubsub#creation_date", created))
        .field(line("pubsub#access_model", name_of(&ACCESS_MODELS, config.access)))
        .field(line("pubsub#publish_model", name_of(&PUBLISH_MODELS, config.publish)))
        .field(line("pubsub#num_items", &items.to_string()));
    for (name, value) in [("pubsub#title", &config.title), ("pubsub#type", &config.payload_type)] {
        if !value.is_empty() {
            form = form.field(line(name, value));
        }
    }
    if !owners.is_empty() {
        let field = Field::new(FieldType::JidMulti, "pubsub#owner");
        form = form.field(owners.iter().fold(field, |field, owner| field.value(owner)));
    }
    form.into_element()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(fields: &[(&str, &str)]) -> Element {
        let form = Form::result(ns::PUBSUB_CONFIG);
        let form = fields.iter().fold(form, |form, (name, value)| {
            form.field(Field::new(FieldType::TextSingle, name).value(value))
        });
        let mut form = form.into_element();
        form.set_attribute("type", "submit");
        form
    }

    fn change(fields: &[(&str, &str)]) -> Result<ConfigChange, StanzaError> {
        ConfigChange::read(&submitted(fields)).map(|change| change.expect("it was submitted"))
    }

    #[test]
    fn what_the_server_sends_reads_back_as_the_same_configuration() {
        let mut config = NodeConfig {
            access: AccessModel::Roster,
            publish: PublishModel::Open,
            send_last: SendLast::Never,
            max_items: u32::MAX,
            title: "T".into(),
            payload_type: "urn:t".into(),
            groups: vec!["a".into(), "b".into()],
            ..NodeConfig::default()
        };
        config.flags.put(NodeFlags::PAYLOADS, false);
        config.flags.put(NodeFlags::NOTIFY_CONFIG, true);
        let mut form = form(&config, Whose::Account);
        form.set_attribute("type", "submit");
        let change = ConfigChange::read(&form).unwrap().unwrap();
        assert_eq!(change.apply(NodeConfig::default(), 10, Whose::Account), Ok(config.clone()));
        assert!(change.agrees(&config, 10) && !change.agrees(&NodeConfig::default(), 10));
    }

    #[test]
    fn wrong_values_and_names_are_refused() {
        let refused = [
            (("pubsub#access_model", "secret"), StanzaCondition::NotAcceptable),
            (("pubsub#max_items", "0"), StanzaCondition::NotAcceptable),
            (("pubsub#max_items", "-1"), StanzaCondition::NotAcceptable),
            (("pubsub#persist_items", "yes"), StanzaCondition::NotAcceptable),
            (("pubsub#nonsense", "1"), StanzaCondition::NotAcceptable),
        ];
        for (field, condition) in refused {
            assert_eq!(change(&[field]).unwrap_err().condition, condition, "{field:?}");
        }
        assert!(change(&[("pubsub#title", &"t".repeat(TEXT_BYTES_MAX + 1))]).is_err());
        assert!(change(&[("pubsub#itemreply", "owner"), ("pubsub#item_expire", "60")]).is_ok());
        let many = change(&[("pubsub#max_items", "11")]).unwrap();
        let error = many.apply(NodeConfig::default(), 10, Whose::Account).unwrap_err();
        assert_eq!(error.condition, StanzaCondition::NotAcceptable);
        let cancelled = Element::parse(b"<x xmlns='jabber:x:data' type='cancel'/>").unwrap();
        assert_eq!(ConfigChange::read(&cancelled), Ok(None));
    }

    /// Without an account there is nobody whose presence is seen, and no roster.
    #[test]
    fn a_node_of_the_service_has_only_models_that_mean_something() {
        let open = NodeConfig { access: AccessModel::Open, ..NodeConfig::default() };
        for (name, model) in ACCESS_MODELS {
            let applied = change(&[("pubsub#access_model", name)]).unwrap();
            let applied = applied.apply(open.clone(), 10, Whose::Service);
            let expected = !matches!(model, AccessModel::Presence | AccessModel::Roster);
            assert_eq!(applied.is_ok(), expected, "{name}");
            if let Err(error) = applied {
                assert_eq!(error.condition, StanzaCondition::NotAcceptable);
                assert_eq!(error.application, Some(("unsupported-access-model", ns::PUBSUB_ERRORS)));
            }
        }
        let text = String::from_utf8(form(&open, Whose::Service).to_bytes()).unwrap();
        assert!(!text.contains("roster") && !text.contains("<value>presence</value>"), "{text}");
    }

    #[test]
    fn a_condition_that_nobody_knows_cannot_be_met() {
        let mut form = submitted(&[("pubsub#nonsense", "1")]);
        form.retain(|node| !matches!(node, crate::xml::Node::Element(field) if field.attribute("var") == Some("FORM_TYPE")));
        let error = ConfigChange::read_options(&form).unwrap_err();
        assert_eq!(error.condition, StanzaCondition::Conflict);
        assert_eq!(error.application, Some(("precondition-not-met", ns::PUBSUB_ERRORS)));
    }

    #[test]
    fn max_is_the_same_as_the_number_it_stands_for() {
        let max = change(&[("pubsub#max_items", "max")]).unwrap();
        let ten = change(&[("pubsub#max_items", "10")]).unwrap();
        for change in [&max, &ten] {
            for max_items in [10, u32::MAX] {
                assert!(change.agrees(&NodeConfig { max_items, ..NodeConfig::default() }, 10));
            }
            assert!(!change.agrees(&NodeConfig::default(), 10));
        }
    }
}
