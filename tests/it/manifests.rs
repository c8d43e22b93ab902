//! `manifest.json` and the ready line: what is taken, and what is said of the rest.

use std::path::Path;

use plugbay::base::error::Kind;
use plugbay::engine::process::manifest::{ChildManifest, Restart};
use plugbay::engine::process::ready::{Ear, Heard, LOOKED_AT_BYTES};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A manifest with these fields beside or in place of the needed ones; `null` takes one out.
fn read(fields: Value) -> Result<ChildManifest, plugbay::base::error::Error> {
    let mut manifest = json!({"name": "stats", "displayName": "Stats", "entry": "dist/index.js"});
    for (name, value) in fields.as_object().unwrap() {
        manifest[name] = value.clone();
    }
    manifest.as_object_mut().unwrap().retain(|_, value| value != "gone");
    ChildManifest::parse(Path::new("/plugins/stats"), "manifest.json", manifest.to_string().as_bytes())
}

#[test]
fn a_manifest_has_the_defaults_of_the_host_that_it_was_written_for() {
    let manifest =
        read(json!({"server": "dist/server.js", "version": 2, "icon": {}, "type": "", "homepage": "x"})).unwrap();
    assert_eq!(manifest.command, ["node", "dist/server.js"]);
    assert_eq!(
        (manifest.version.as_str(), manifest.page_type.as_str(), manifest.slot.as_str()),
        ("2", "module", "tab")
    );
    assert_eq!((manifest.icon, manifest.restart, manifest.permissions.len()), (None, Restart::Always, 0));
    assert_eq!(manifest.notes, ["manifest.json: field \"homepage\" means nothing to this host"]);
    for none in [json!({}), json!({"server": null}), json!({"server": ""})] {
        assert!(!read(none).unwrap().has_server());
    }
    for name in ["__proto__", "constructor", "A-b_9", &"x".repeat(64)] {
        assert_eq!(read(json!({"name": name})).unwrap().id.as_str(), name);
    }
}

#[test]
fn what_is_wrong_is_said_with_the_field_what_came_and_what_was_expected() {
    let cases = [
        (json!({"name": "gone"}), "field \"name\" is missing: expected"),
        (json!({"name": "a b"}), "field \"name\": \"a b\" is no name of a plugin"),
        (json!({"name": "x".repeat(65)}), "1 to 64 letters"),
        (json!({"displayName": ""}), "field \"displayName\" is \"\": expected"),
        (json!({"entry": "a..b.js"}), "field \"entry\" is \"a..b.js\": expected a relative path without \"..\""),
        (json!({"entry": "/etc/passwd"}), "a relative path"),
        (json!({"server": 7}), "field \"server\" is 7: expected"),
        (json!({"server": "../x.js"}), "a relative path"),
        (json!({"type": "angular"}), "field \"type\" is \"angular\": expected one of \"module\", \"react\""),
        (json!({"slot": "bar"}), "expected one of \"tab\""),
        (json!({"permissions": null}), "field \"permissions\" is null: expected a list of texts"),
        (json!({"restart": "sometimes"}), "expected one of \"always\", \"on-demand\", \"never\""),
        (json!({"command": []}), "field \"command\" is []: expected a list of texts"),
        (json!({"command": "node x"}), "expected a list of texts"),
        (json!({"command": ["env", "LD_PRELOAD=x.so", "node"]}), "the host decides what a child's programs are"),
        (json!({"env": {"NODE_OPTIONS": "--inspect"}}), "changes what programs are run"),
        (json!({"limits": {"memory_bytes": 0}}), "field \"limits.memory_bytes\" is 0: expected a whole number from 1"),
        (json!({"limits": {"memory": 1}}), "expected an object like {\"memory_bytes\""),
    ];
    for (fields, expected) in cases {
        let error = read(fields.clone()).err().unwrap_or_else(|| panic!("{fields} was taken"));
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.message().starts_with("manifest.json: "), "{error}");
        assert!(error.message().contains(expected), "{fields}: {error}");
    }
    let malformed = ChildManifest::parse(Path::new("/"), "manifest.json", b"{,}").err().unwrap();
    assert_eq!(malformed.kind(), Kind::Malformed);
    assert!(ChildManifest::parse(Path::new("/"), "manifest.json", b"[]").err().unwrap().message().contains("is []"));
}

/// What an ear hears in these pieces.
fn heard<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let mut ear = Ear::default();
    for piece in pieces {
        match ear.hear(piece) {
            Heard::Nothing => {}
            other => return other,
        }
    }
    Heard::Nothing
}

#[test]
fn an_ear_is_as_tolerant_as_it_was_promised() {
    for good in [
        "{\"ready\":true,\"port\":4321}",
        "noise\nnull\n[]\n  {\"ready\": \"yes\", \"port\": 4321, \"more\": {}}  \r\n",
        "{\"ready\":false,\"port\":1}\n{\"ready\":1,\"port\":4321}\n{\"ready\":true,\"port\":9}\n",
        "{\"ready\":true,\"port\":\"1\"}\n{\"ready\":true,\"port\":4321}\n",
    ] {
        assert_eq!(heard([good.as_bytes()]), Heard::Ready(4321), "{good}");
    }
    for bad in ["0", "65536", "-1", "44193.5", "1e99"] {
        let line = format!("{{\"ready\":true,\"port\":{bad}}}\n");
        assert!(matches!(heard([line.as_bytes()]), Heard::Never(_)), "{bad}");
    }
    let long = vec![b'x'; LOOKED_AT_BYTES];
    assert!(matches!(heard([&long[..]]), Heard::Never(_)));
    let mut late = vec![b'\n'; LOOKED_AT_BYTES - 40];
    late.extend(b"{\"ready\":true,\"port\":4321}");
    assert_eq!(heard(late.chunks(7)), Heard::Ready(4321));
}

proptest! {
    #[test]
    fn where_the_pieces_end_changes_nothing(
        before in "[ -~\n]{0,200}", port in 1_u16.., cuts in proptest::collection::vec(1_usize..60, 1..20)
    ) {
        let text = format!("{before}\n{{\"ready\": true, \"port\": {port}}}\n");
        let (mut rest, mut pieces) = (text.as_bytes(), Vec::new());
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, more) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = more;
        }
        prop_assert_eq!(heard(pieces), Heard::Ready(port));
    }

    #[test]
    fn no_bytes_make_an_ear_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20)) {
        let _ = heard(pieces.iter().map(Vec::as_slice));
    }
}
