//! The home folder: its lock, its files and their rights.

use std::process::id;

use plugbay::base::error::Kind;
use plugbay::base::settings::Settings;
use plugbay::kernel::store::Store;

fn settings(home: &std::path::Path) -> Settings {
    Settings::defaults(home.to_owned())
}

#[test]
fn a_second_host_is_told_who_holds_the_home_folder_and_where_it_serves() {
    let home = tempfile::tempdir().unwrap();
    let first = Store::open(&settings(home.path())).unwrap();
    first.announce("http://127.0.0.1:8123").unwrap();
    let error = Store::open(&settings(home.path())).err().unwrap();
    assert_eq!(error.kind(), Kind::Conflict);
    assert!(error.message().contains(&id().to_string()), "{error}");
    assert!(error.message().contains("http://127.0.0.1:8123"), "{error}");
    drop(first);
    Store::open(&settings(home.path())).unwrap();
}

#[test]
fn host_json_is_there_while_the_host_serves() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(&settings(home.path())).unwrap();
    let file = home.path().join("host.json");
    assert!(!file.exists());
    store.announce("http://127.0.0.1:8123").unwrap();
    let said: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(said["url"], "http://127.0.0.1:8123");
    assert_eq!(said["pid"], id());
    assert!(said["started"].as_str().unwrap().ends_with('Z'));
    store.retract();
    assert!(!file.exists());
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_look_into_the_home_folder_and_its_files() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let home = parent.path().join("a/b");
    let store = Store::open(&settings(&home)).unwrap();
    plugbay::kernel::auth::Auth::open(&settings(&home), &store).unwrap();
    store.announce("http://127.0.0.1:1").unwrap();
    store.write("tokens.json", b"{}").unwrap();
    let rights = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(rights(&home), 0o700);
    for name in ["lock", "host.json", "token", "tokens.json"] {
        assert_eq!(rights(&home.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_write_that_fails_leaves_what_was_there() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(&settings(home.path())).unwrap();
    store.write("kept", b"old").unwrap();
    // A folder in the place of the file: the rename fails after the new bytes were written.
    std::fs::create_dir_all(home.path().join("taken/inside")).unwrap();
    assert_eq!(store.write("taken", b"new").unwrap_err().kind(), Kind::Unavailable);
    assert_eq!(store.read("kept").unwrap().unwrap(), b"old");
    assert_eq!(store.read("absent").unwrap(), None);
    let left = std::fs::read_dir(home.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp"));
    assert_eq!(left.count(), 0);
}
