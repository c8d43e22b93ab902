//! Settings from defaults, the file, the environment and flags.

use std::ffi::OsString;
use std::path::Path;

use plugbay::base::error::Kind;
use plugbay::base::limits::LIMITS;
use plugbay::base::rows::SETTINGS;
use plugbay::base::settings::{AuthMode, LogFormat, Mode, Settings};
use plugbay::base::sources::Surroundings;
use serde_json::{Value, json};

fn around(folder: &Path, variables: &[(&str, &str)]) -> Surroundings {
    let mut environment: std::collections::HashMap<OsString, OsString> =
        variables.iter().map(|(key, value)| (key.into(), value.into())).collect();
    environment.entry("HOME".into()).or_insert_with(|| "/home/nobody".into());
    Surroundings { environment, folder: folder.to_owned() }
}

fn read(flags: Value, file: Option<&str>, variables: &[(&str, &str)]) -> Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    if let Some(text) = file {
        std::fs::write(folder.path().join("plugbay.toml"), text).unwrap();
    }
    Settings::read(&flags, &around(folder.path(), variables)).map_err(|error| {
        assert_eq!(error.kind(), Kind::Invalid);
        error.message().to_owned()
    })
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file_and_that_before_defaults() {
    let file = Some("port = 1\nworkers = 1\nmode = \"plan\"\nallow_host = [\"a.example\"]\n[limits]\nbody_bytes = 1\n");
    let variables =
        [("PLUGBAY_PORT", "2"), ("PLUGBAY_WORKERS", "2"), ("PLUGBAY_ALLOW_HOST", "b.example, c.example:81")];
    let settings = read(json!({"port": 3, "auth": null}), file, &variables).unwrap();
    assert_eq!(settings.port, 3);
    assert_eq!(settings.workers, 2);
    assert_eq!(settings.mode, Mode::Plan);
    assert_eq!(settings.log_format, LogFormat::Human);
    assert_eq!(settings.auth, AuthMode::Token);
    assert_eq!(settings.allow_hosts, ["b.example", "c.example:81"]);
    assert_eq!(settings.limits.body_bytes, 1);
    assert_eq!(settings.limits.head_bytes, 64 << 10);
    assert_eq!(settings.home, Path::new("/home/nobody/.local/share/plugbay"));
}

#[test]
fn a_limit_is_settable_in_the_file_in_the_environment_and_by_flags() {
    for row in LIMITS {
        let name = format!("PLUGBAY_LIMITS_{}", row.name.to_ascii_uppercase());
        let shown = |settings: Settings| settings.to_json()[row.name].as_f64().unwrap();
        assert_eq!(shown(read(json!({}), Some(&format!("[limits]\n{} = 7\n", row.name)), &[]).unwrap()), 7.0);
        assert_eq!(shown(read(json!({}), None, &[(&name, "8")]).unwrap()), 8.0);
        assert_eq!(shown(read(json!({"limits": {row.name: 9}}), None, &[(&name, "8")]).unwrap()), 9.0);
        // 0 stands for no limit where there may be none.
        let zero = Some("0").filter(|_| row.name != "proxy_body_bytes");
        for bad in ["-1", "many", "nan", "inf", "1e999"].into_iter().chain(zero) {
            let message = read(json!({}), None, &[(&name, bad)]).unwrap_err();
            assert!(message.contains(&name) && message.contains("expected"), "{message}");
        }
    }
    let message = read(json!({}), None, &[("PLUGBAY_LIMITS_BODY_BITES", "1")]).unwrap_err();
    assert!(message.contains("body_bites") && message.contains("nearest are body_bytes"), "{message}");
    let settings = read(json!({}), Some("[limits]\nhook_time_s = 0.25\n"), &[]).unwrap();
    assert_eq!(settings.limits.hook_time, std::time::Duration::from_millis(250));
}

#[test]
fn every_setting_is_shown_by_its_name_and_its_flag_and_variable_are_spelled_like_it() {
    let shown = read(json!({}), None, &[]).unwrap().to_json();
    for row in SETTINGS {
        let key = if row.name == "plugins_dir" { "plugins_dirs" } else { row.name };
        assert!(shown.get(key).is_some(), "{key}");
        assert!(!row.help.is_empty());
        assert!(row.flag.is_none_or(|flag| flag == format!("--{}", row.name.replace('_', "-"))));
        assert!(row.env.is_none_or(|env| env == format!("PLUGBAY_{}", row.name.to_ascii_uppercase())));
    }
}

#[test]
fn the_plugins_dirs_are_those_of_the_variable_then_of_the_file_then_of_the_flags() {
    let list = std::env::join_paths(["/one", "two"]).unwrap();
    let settings = read(
        json!({"plugins_dir": ["/four", "/five"]}),
        Some("plugins_dir = \"/three\"\n"),
        &[("PLUGINS_DIR", list.to_str().unwrap())],
    )
    .unwrap();
    let last = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let names: Vec<String> = settings.plugins_dirs.iter().map(|path| last(path)).collect();
    assert_eq!(names, ["one", "two", "three", "four", "five"]);
    assert!(settings.plugins_dirs.iter().all(|path| path.is_absolute()));
}

#[test]
fn paths_in_the_file_are_relative_to_the_file_and_a_named_file_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("etc")).unwrap();
    std::fs::write(folder.path().join("etc/host.toml"), "tls_cert = \"c.pem\"\ntls_key = \"k.pem\"\n").unwrap();
    for (flags, variables) in
        [(json!({"config": "etc/host.toml"}), vec![]), (json!({}), vec![("PLUGBAY_CONFIG", "etc/host.toml")])]
    {
        let settings = Settings::read(&flags, &around(folder.path(), &variables)).unwrap();
        let etc = folder.path().join("etc");
        assert_eq!(settings.tls, Some((etc.join("c.pem"), etc.join("k.pem"))));
        assert_eq!(settings.config, Some(etc.join("host.toml")));
    }
    let error = Settings::read(&json!({"config": "none.toml"}), &around(folder.path(), &[])).unwrap_err();
    assert!(error.message().contains("none.toml"), "{error}");
}

#[test]
fn an_unknown_name_is_an_error_that_names_the_source_and_the_nearest() {
    let message = read(json!({}), Some("prot = 1\n"), &[]).unwrap_err();
    assert!(message.contains("plugbay.toml") && message.contains("\"prot\"") && message.contains("port"), "{message}");
    let message = read(json!({}), Some("[limits]\nbody_byte = 1\n"), &[]).unwrap_err();
    assert!(message.contains("body_bytes"), "{message}");
    let message = read(json!({"acces_log": true}), None, &[]).unwrap_err();
    assert!(message.contains("command line") && message.contains("access_log"), "{message}");
}

#[test]
fn a_bad_value_is_an_error_that_says_where_it_stands_what_it_is_and_what_was_expected() {
    for (name, bad) in [
        ("host", "nowhere"),
        ("port", "65536"),
        ("port", "-1"),
        ("auth", "off"),
        ("mode", "Plan"),
        ("log_format", "xml"),
        ("access_log", "maybe"),
        ("workers", "0"),
        ("public_url", "ftp://a.example"),
        ("public_url", "https://a.example/path"),
        ("allow_host", "a b"),
        ("allow_host", "user@a.example"),
        ("allow_origin", "a.example"),
        ("allow_origin", "https://a.example/x"),
        ("trust_proxy", "10.0.0.0/99"),
        ("ready_json", "2"),
    ] {
        let variable = format!("PLUGBAY_{}", name.to_ascii_uppercase());
        let message = read(json!({}), None, &[(&variable, bad)]).unwrap_err();
        assert!(message.contains(&variable) && message.contains("expected"), "{message}");
        assert!(message.contains(bad), "{message}");
    }
    let message = read(json!({}), Some("port = [1]\n"), &[]).unwrap_err();
    assert!(message.contains("plugbay.toml") && message.contains("[1]"), "{message}");
    let message = read(json!({}), Some("port = \n"), &[]).unwrap_err();
    assert!(message.contains("plugbay.toml") && message.contains("TOML"), "{message}");
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    let message = read(json!({"auth": "none", "host": "0.0.0.0"}), None, &[]).unwrap_err();
    assert!(message.contains("--host 127.0.0.1"), "{message}");
    assert!(read(json!({"auth": "none", "host": "localhost"}), None, &[]).is_ok());
    assert!(read(json!({"auth": "none", "host": "::1"}), None, &[]).is_ok());
    let message = read(json!({"tls_cert": "c.pem"}), None, &[]).unwrap_err();
    assert!(message.contains("tls_key"), "{message}");
}

#[test]
fn what_variables_put_into_the_settings_is_never_shown() {
    let file = "database = \"postgres://ann:s3cret@db/plugbay\"\n\
                [mcp.servers.far]\nurl = \"http://u:s3cret@far/mcp\"\nheaders = { Authorization = \"Bearer ${KEY}\" }\n\
                [mcp.servers.near]\ncommand = \"near\"\nenv = { SECRET = \"${KEY}\" }\n";
    let settings = read(json!({}), Some(file), &[("KEY", "s3cret")]).unwrap();
    assert_eq!(settings.mcp.servers.len(), 2);
    let shown = format!("{settings:?} {:?}", settings.mcp);
    assert!(shown.contains("Authorization") && shown.contains("SECRET"), "names help: {shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}
