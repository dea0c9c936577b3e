//! Devices that are told of messages by push services (XEP-0357), which the format of XEP-0227 has no place for: an element of our
//! own, with the fields of the directory. A device is worth something only to a server with the keys of the same app.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use roxmltree::Node;
use whimbrel_storage::directory::{PUSH_NODE_BYTES_MAX, PushDevice};

use super::xml::escaped;

/// The namespace of the element.
pub(in crate::migrate) const DEVICES: &str = "whimbrel#push";

/// Devices of one account that are taken.
const DEVICES_MAX: usize = 100;

/// Bytes of a text of a device.
const TEXT_BYTES_MAX: usize = 2048;

/// Writes the devices of an account.
pub(in crate::migrate) fn write(devices: &[PushDevice], out: &mut String) {
    if devices.is_empty() {
        return;
    }
    out.push_str(&format!("<devices xmlns='{DEVICES}'>"));
    for device in devices {
        let PushDevice { node, service, token, topic, resource, flags, .. } = device;
        out.push_str("<device");
        let numbers = [
            ("service", u64::from(*service)),
            ("flags", u64::from(*flags)),
            ("time-to-live", u64::from(device.time_to_live)),
            ("enabled-ms", device.enabled_ms),
        ];
        numbers.iter().for_each(|(name, number)| out.push_str(&format!(" {name}='{number}'")));
        let keys = STANDARD.encode(&device.keys);
        let texts = [
            ("node", node.as_str()),
            ("token", token),
            ("keys", &keys),
            ("topic", topic),
            ("resource", resource),
            ("sound", &device.sound),
            ("click-action", &device.click_action),
        ];
        for (name, text) in texts.iter().filter(|(_, text)| !text.is_empty()) {
            out.push_str(&format!(" {name}='{}'", escaped(text)));
        }
        out.push_str("/>");
    }
    out.push_str("</devices>");
}

/// Reads the devices of an account.
pub(in crate::migrate) fn read(element: Node<'_, '_>, into: &mut Vec<PushDevice>, remarks: &mut Vec<String>) {
    for node in element.children().filter(|node| node.has_tag_name((DEVICES, "device"))) {
        match device(node) {
            Ok(_) if into.len() >= DEVICES_MAX => {
                return remarks
                    .push(format!("an account may have {DEVICES_MAX} devices; the others are left out"));
            }
            Ok(device) => into.push(device),
            Err(reason) => remarks.push(format!("a device is left out: {reason}")),
        }
    }
}

fn device(node: Node<'_, '_>) -> Result<PushDevice, String> {
    let text = |name: &str| node.attribute(name).unwrap_or_default().to_owned();
    let number = |name: &str| {
        let text = node.attribute(name).unwrap_or("0");
        text.parse::<u64>().map_err(|_| format!("its {name} is no number: {text}"))
    };
    let too_large = |name: &'static str| move |_| format!("its {name} is too large");
    let device = PushDevice {
        node: text("node"),
        service: u8::try_from(number("service")?).map_err(too_large("service"))?,
        token: text("token"),
        keys: STANDARD.decode(text("keys")).map_err(|error| format!("its keys are no Base64: {error}"))?,
        topic: text("topic"),
        resource: text("resource"),
        flags: u8::try_from(number("flags")?).map_err(too_large("flags"))?,
        time_to_live: u32::try_from(number("time-to-live")?).map_err(too_large("time-to-live"))?,
        sound: text("sound"),
        click_action: text("click-action"),
        enabled_ms: number("enabled-ms")?,
    };
    if device.node.is_empty() || device.token.is_empty() {
        return Err("it has no node or no token".into());
    }
    let PushDevice { node, token, topic, resource, sound, click_action, .. } = &device;
    let texts = [token, topic, resource, sound, click_action];
    let is_long = texts.iter().any(|text| text.len() > TEXT_BYTES_MAX) || device.keys.len() > TEXT_BYTES_MAX;
    match is_long || node.len() > PUSH_NODE_BYTES_MAX {
        true => Err(format!("a text of it has more than {TEXT_BYTES_MAX} bytes")),
        false => Ok(device),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roxmltree::Document;

    fn found(inside: &str) -> (Vec<PushDevice>, Vec<String>) {
        let text = format!("<devices xmlns='{DEVICES}'>{inside}</devices>");
        let document = Document::parse(&text).unwrap();
        let (mut devices, mut remarks) = (Vec::new(), Vec::new());
        read(document.root_element(), &mut devices, &mut remarks);
        (devices, remarks)
    }

    #[test]
    fn devices_come_back_as_they_went_out() {
        let first = PushDevice {
            node: "a <node>".into(),
            service: 3,
            token: "https://push.example/'x'".into(),
            keys: vec![4, 0, 255],
            resource: "phone".into(),
            flags: 5,
            time_to_live: 60,
            sound: "ding".into(),
            enabled_ms: 1_700_000_000_000,
            ..PushDevice::default()
        };
        let second = PushDevice { node: "b".into(), token: "t".into(), service: 1, ..PushDevice::default() };
        let mut out = String::new();
        write(&[first.clone(), second.clone()], &mut out);
        let document = Document::parse(&out).unwrap();
        let (mut devices, mut remarks) = (Vec::new(), Vec::new());
        read(document.root_element(), &mut devices, &mut remarks);
        assert_eq!((devices, remarks), (vec![first, second], Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_left_out_and_told() {
        let bad = [
            "<device node='' token='t'/>",
            "<device node='n'/>",
            "<device node='n' token='t' service='256'/>",
            "<device node='n' token='t' flags='x'/>",
            "<device node='n' token='t' keys='*'/>",
            "<device node='n' token='t' time-to-live='4294967296'/>",
        ];
        let (devices, remarks) = found(&bad.concat());
        assert_eq!((devices.len(), remarks.len()), (0, bad.len()), "{remarks:?}");
        let long = format!("<device node='n' token='{}'/>", "x".repeat(TEXT_BYTES_MAX + 1));
        assert_eq!(found(&long).1.len(), 1);
        let many: String =
            (0..=DEVICES_MAX).map(|n| format!("<device node='{n}' token='{n}' service='1'/>")).collect();
        let (devices, remarks) = found(&many);
        assert_eq!((devices.len(), remarks.len()), (DEVICES_MAX, 1));
    }
}
