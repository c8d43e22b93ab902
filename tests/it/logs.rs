//! What stands in the log. The log belongs to the process, so each of these tests runs itself in one of its own.

use std::process::{Command, Stdio};

use plugbay::base::log;
use plugbay::base::settings::LogFormat;

use crate::served::{PATIENCE, Served};

/// Set in the process that does what is tested.
const INNER: &str = "PLUGBAY_TEST_INNER";

/// Runs the test of that name again in a process of its own; returns what it wrote to standard error.
fn alone(test: &str, shell: &str) -> String {
    let program = std::env::current_exe().expect("the test program");
    let output = Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$0\" --exact {test} --nocapture"), &program.to_string_lossy()])
        .env(INNER, "1")
        .stdin(Stdio::null())
        .output()
        .expect("a shell");
    let text = String::from_utf8(output.stderr).expect("the log is UTF-8");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stdout));
    text
}

fn is_inner() -> bool {
    std::env::var_os(INNER).is_some()
}

/// Asks for a few things that are worth a line.
fn served_with(format: LogFormat, access_log: bool) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let served = Served::with(|settings| {
            settings.log_format = format;
            settings.access_log = access_log;
            log::start(settings).expect("a valid filter");
        });
        let id = "x-request-id: the-id\r\n";
        served.ask(format!("{}{id}\r\n", served.head("GET", "/hello?secret=canary&token=canary"))).await;
        served.ask(format!("{}{id}\r\n", served.head("GET", "/raise"))).await;
        served.ask(format!("{}{id}\r\n", served.head("GET", "/%1b%5b31m%0aforged"))).await;
        served.ask(format!("GET /sign-in/canary HTTP/1.1\r\nhost: {}\r\n{id}\r\n", served.address)).await;
        tracing::info!(value = "a\nb \u{1b}[31m", "what came from outside: {}", "x\r\ny\u{9b}");
        served.parts.shutdown.stop();
        served.serving.drained().await;
        log::flush(PATIENCE);
    });
}

#[test]
fn a_json_log_has_an_object_a_line_with_the_id_of_its_request() {
    if is_inner() {
        return served_with(LogFormat::Json, true);
    }
    let text = alone("logs::a_json_log_has_an_object_a_line_with_the_id_of_its_request", "");
    assert!(!text.contains("canary"), "{text}");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("a line is an object")).collect();
    let access: Vec<_> = lines.iter().filter(|line| line["target"] == "plugbay::access").collect();
    let paths: Vec<_> = access.iter().map(|line| line["path"].as_str().expect("a path")).collect();
    let demo = "/api/plugins/demo";
    let raised = format!("{demo}/raise");
    let forged = format!("{demo}/%1b%5b31m%0aforged");
    assert_eq!(paths, [&format!("{demo}/hello"), &raised, &forged, "/sign-in/…"]);
    assert!(access.iter().all(|line| line["request"] == "the-id" && line["client"] == "127.0.0.1"));
    assert_eq!((&access[0]["status"], &access[0]["method"]), (&200.into(), &"GET".into()));
    assert_eq!((&access[0]["principal"], &access[3]["principal"]), (&"owner".into(), &"nobody".into()));
    let failure = lines.iter().find(|line| line["level"] == "error").expect("the plugin's failure");
    assert_eq!((&failure["message"], &failure["plugin"]), (&"it raised".into(), &"demo".into()));
    assert_eq!(failure["request"], "the-id");
}

#[test]
fn a_human_log_escapes_what_came_from_outside() {
    if is_inner() {
        return served_with(LogFormat::Human, true);
    }
    let text = alone("logs::a_human_log_escapes_what_came_from_outside", "");
    assert!(!text.contains('\u{1b}') && !text.contains('\u{9b}') && !text.contains("canary"), "{text}");
    let line = text.lines().find(|line| line.contains("what came from outside")).expect("the line");
    assert!(line.ends_with(r"what came from outside: x\r\ny\u{9b} value=a\nb \u{1b}[31m"), "{line}");
    assert!(text.lines().any(|line| line.contains("path=/api/plugins/demo/raise status=500")), "{text}");
}

#[test]
fn without_the_access_log_no_request_is_a_line() {
    if is_inner() {
        return served_with(LogFormat::Json, false);
    }
    let text = alone("logs::without_the_access_log_no_request_is_a_line", "");
    assert!(!text.contains("plugbay::access") && text.contains("it raised"), "{text}");
}

#[test]
fn without_file_descriptors_the_host_waits_and_then_serves_again() {
    if !is_inner() {
        let text = alone("logs::without_file_descriptors_the_host_waits_and_then_serves_again", "ulimit -n 64;");
        // Said once each time, however often it is tried.
        let (stops, ends) = ("cannot accept connections", "connections are accepted again");
        assert!(text.contains(ends), "{text}");
        assert_eq!(text.matches(stops).count(), text.matches(ends).count(), "{text}");
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let served = Served::with(|settings| {
            settings.access_log = false;
            log::start(settings).expect("a valid filter");
        });
        // Connect until this process has no more; the last ones are not accepted.
        let mut held = Vec::new();
        while let Ok(stream) = tokio::net::TcpStream::connect(served.address).await {
            held.push(stream);
        }
        let before = processor_time();
        let began = std::time::Instant::now();
        while began.elapsed() < std::time::Duration::from_millis(500) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        let used = processor_time() - before;
        assert!(used < 0.1, "{used} s of the processor in half a second of waiting");
        held.truncate(2);
        assert_eq!(served.ask(served.get("/hello")).await.text(), "hello");
        log::flush(PATIENCE);
    });
}

/// The seconds that this process has kept a processor busy.
fn processor_time() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The 14th and 15th field, in hundredths of a second; the second field may hold spaces, in parentheses.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
