//! The web files of plugins, and no others.

use std::fs;
use std::path::Path;

use plugbay::base::manifest::Manifest;
use plugbay::kernel::contribution::Assets;
use plugbay::kernel::registry::{Draft, Engine};

use crate::support::Host;

fn serve(host: &Host, id: &str, folder: &Path) {
    let manifest = Manifest::check(id, id, "1", "", ">=1,<2").unwrap();
    let mut draft = Draft::new(manifest, format!("{id}.py"), Engine::Python);
    draft.add_assets(Assets { folder: folder.to_owned() }).unwrap();
    host.parts.registry.commit(draft).unwrap();
}

#[tokio::test]
async fn a_file_comes_with_its_type_and_in_a_sandbox() {
    let host = Host::start().await;
    let folder = tempfile::tempdir().unwrap();
    let large = "x".repeat(300_000);
    fs::create_dir(folder.path().join("a b")).unwrap();
    for (name, text) in
        [("index.html", "<p>hi"), ("app.js", "1"), ("a b/ü.svg", "<svg/>"), ("large.txt", &large), ("empty", "")]
    {
        fs::write(folder.path().join(name), text).unwrap();
    }
    serve(&host, "a", folder.path());
    for (path, media_type, text) in [
        ("index.html", "text/html; charset=utf-8", "<p>hi"),
        ("app.js", "text/javascript; charset=utf-8", "1"),
        ("a%20b/%C3%BC.svg", "image/svg+xml", "<svg/>"),
        ("large.txt", "text/plain; charset=utf-8", &large),
        ("empty", "application/octet-stream", ""),
    ] {
        let file = host.owned(&format!("GET /api/plugins/a/assets/{path}"), "").await;
        assert_eq!((file.status, file.header("content-type")), (200, Some(media_type)), "{path}");
        assert!(file.text() == *text, "{path}");
        assert_eq!(file.header("content-length"), Some(text.len().to_string().as_str()));
        assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(file.header("cache-control"), Some("no-store"));
        let policy = file.header("content-security-policy").unwrap();
        assert!(policy.starts_with("sandbox") && !policy.contains("allow-same-origin"));
    }
    let head = host.owned("HEAD /api/plugins/a/assets/large.txt", "").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("300000"), 0));
    assert_eq!(host.get("/api/plugins/a/assets/app.js", &[]).await.status, 401);
}

#[tokio::test]
async fn nothing_outside_the_folder_is_served_whatever_the_path_says() {
    let host = Host::start().await;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("assets");
    fs::create_dir_all(folder.join("sub/.git")).unwrap();
    fs::create_dir_all(parent.path().join("assets-2")).unwrap();
    for name in ["secret.txt", "assets-2/secret.txt", "assets/.env", "assets/sub/.git/config", "assets/ok.txt"] {
        fs::write(parent.path().join(name), "secret").unwrap();
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(parent.path().join("secret.txt"), folder.join("link.txt")).unwrap();
        std::os::unix::fs::symlink(parent.path(), folder.join("up")).unwrap();
        std::os::unix::fs::symlink(folder.join(".env"), folder.join("env.txt")).unwrap();
        std::os::unix::fs::symlink(folder.join("ok.txt"), folder.join("good.txt")).unwrap();
    }
    serve(&host, "a", &folder);
    for path in [
        "../secret.txt",
        "%2e%2e/secret.txt",
        "%2E%2E%2Fsecret.txt",
        "..%2fsecret.txt",
        "%252e%252e%252fsecret.txt",
        "sub/../../secret.txt",
        "..%5csecret.txt",
        "..\\secret.txt",
        "%2e%2e%5c%2e%2e%5csecret.txt",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "//etc/passwd",
        "file:///etc/passwd",
        "C:%5cwindows%5cwin.ini",
        "../assets-2/secret.txt",
        ".env",
        "%2eenv",
        "sub/.git/config",
        "link.txt",
        "up/secret.txt",
        "env.txt",
        "ok.txt%00",
        "ok.txt%00.html",
        "ok.txt/",
        "ok.txt/x",
        "%ff",
        "sub",
        "sub/",
        "",
    ] {
        let reply = host.owned(&format!("GET /api/plugins/a/assets/{path}"), "").await;
        assert!(!reply.text().contains("secret\"") && reply.text() != "secret", "{path}");
        assert!(matches!(reply.status, 400 | 404) || path.is_empty(), "{path}: {}", reply.status);
    }
    assert_eq!(host.owned("GET /api/plugins/a/assets/ok.txt", "").await.status, 200);
    #[cfg(unix)]
    assert_eq!(host.owned("GET /api/plugins/a/assets/good.txt", "").await.status, 200);
    assert_eq!(host.owned("GET /api/plugins/b/assets/ok.txt", "").await.status, 404);
}

#[tokio::test]
async fn no_file_of_the_host_is_served_whatever_folder_a_plugin_names() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    for name in ["plugbay.toml", "key.pem", "cert.pem", "ok.txt"] {
        fs::write(path(name), "x").unwrap();
    }
    let host = Host::start_with(|settings| {
        settings.config = Some(path("plugbay.toml"));
        settings.tls = Some((path("cert.pem"), path("key.pem")));
    })
    .await;
    let home = host.parts.store.home();
    fs::create_dir_all(home.join("plugins/x")).unwrap();
    fs::write(home.join("plugins/x/ok.txt"), "x").unwrap();
    serve(&host, "home", home);
    serve(&host, "root", Path::new("/"));
    serve(&host, "files", files.path());
    let below = home.strip_prefix("/").unwrap().to_str().unwrap().to_owned();
    for name in ["token", "lock", "tokens.json", "host.json"] {
        assert_eq!(host.owned(&format!("GET /api/plugins/home/assets/{name}"), "").await.status, 404, "{name}");
        assert_eq!(host.owned(&format!("GET /api/plugins/root/assets/{below}/{name}"), "").await.status, 404, "{name}");
    }
    for name in ["plugbay.toml", "key.pem", "cert.pem"] {
        assert_eq!(host.owned(&format!("GET /api/plugins/files/assets/{name}"), "").await.status, 404, "{name}");
    }
    assert_eq!(host.owned("GET /api/plugins/files/assets/ok.txt", "").await.status, 200);
    assert_eq!(host.owned("GET /api/plugins/home/assets/plugins/x/ok.txt", "").await.status, 200);
}
