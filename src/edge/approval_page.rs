//! `/approvals` and `/approvals/{id}`: the calls that wait for a person, as pages without script, and the forms that answer
//! one. An approval's address leads here.
//!
//! What a caller sent is text here, never markup, and no character of it is unseen.

use std::fmt::Write;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderValue, StatusCode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::base::error::{Error, Kind, Result};
use crate::edge::answer::{kept, named, whole};
use crate::edge::page::{SIGN_OUT_FORM, failed, text, with_forms};
use crate::edge::parts::Parts;
use crate::kernel::approvals::{Approval, State as Stands};
use crate::kernel::auth::{Principal, Scope};
use crate::kernel::call::Caller;
use crate::kernel::clerk::{Rules, Said, Word};
use crate::kernel::unseen::written_out;

/// The routes of the pages.
pub fn router() -> Router<Parts> {
    Router::new().route("/approvals", get(list)).route("/approvals/{id}", get(one).post(answer))
}

/// `GET /approvals`: those that wait, oldest first. Who may not answer sees their own.
async fn list(State(parts): State<Parts>, Extension(caller): Extension<Caller>) -> Response {
    let approvals = parts.toolbox.gate().approvals();
    let mut body = String::from("<h1>Calls that wait for a person</h1>\n");
    let before = body.len();
    for approval in approvals.pending() {
        let question = &approval.question;
        if caller.principal.has(Scope::Approve) || question.caller.name() == caller.principal.name() {
            let (id, what, who) = (text(&approval.id), seen(&title(&approval)), seen(question.caller.name()));
            let _ = writeln!(body, "<p><a href=\"/approvals/{id}\"><code>{what}</code></a> for {who}</p>");
        }
    }
    if body.len() == before {
        body.push_str("<p>None waits now.</p>\n");
    }
    body.push_str("<p><a href=\"/approvals\">look again</a></p>\n");
    body.push_str(SIGN_OUT_FORM);
    with_forms("Calls that wait for a person", &body)
}

/// `GET /approvals/{id}`: one, also for a while after its end, with the forms that answer it.
async fn one(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
) -> Response {
    let id = named(path).unwrap_or_default();
    match parts.toolbox.gate().approvals().find(&id, &caller.principal) {
        Ok(approval) => with_forms(&written_out(&title(&approval)), &shown(&approval, &caller.principal)),
        Err(error) => failed("No such call", &error, ALL),
    }
}

/// `POST /approvals/{id}` with the fields of a form: back to the page, which then says how it ended.
async fn answer(
    State(parts): State<Parts>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let id = named(path).unwrap_or_default();
    let here = format!("/approvals/{id}");
    let answered = async {
        let said = said(&whole(body)?)?;
        let (gate, id) = (parts.toolbox.gate().clone(), id.clone());
        // A rule is written to the disk first, which must not hold up other requests.
        kept(move || said.give(&gate, &id, &caller.principal)).await
    };
    match answered.await {
        Ok(_) => {
            // An id that was found is of characters that need no escape.
            let place = HeaderValue::try_from(here).unwrap_or(HeaderValue::from_static("/approvals"));
            let headers = [(LOCATION, place), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Err(error) => failed("Not answered", &error, &format!("<p><a href=\"{}\">back</a></p>\n{ALL}", text(&here))),
    }
}

/// The way to all of them.
const ALL: &str = "<p><a href=\"/approvals\">calls that wait for a person</a></p>\n";

/// Reads the fields of a form.
fn said(body: &[u8]) -> Result<Said> {
    let mut said = Said { id: None, digest: String::new(), decision: Word::Deny, rule: None, reason: None };
    let (mut decided, mut rules) = (false, Vec::new());
    for (name, value) in url::form_urlencoded::parse(body) {
        match &*name {
            "digest" => said.digest = value.into_owned(),
            "reason" => said.reason = Some(value.into_owned()),
            "rule" => rules.push(value.trim().to_owned()),
            "decision" => {
                said.decision = Word::parse(&value)?;
                decided = true;
            }
            other => return Err(Error::new(Kind::Invalid, format!("an answer has no field {other:?}"))),
        }
    }
    if !decided || said.digest.is_empty() {
        let message =
            "an answer is a form with the fields \"digest\" and \"decision\": send it from the approval's page";
        return Err(Error::new(Kind::Invalid, message));
    }
    if said.decision == Word::Always && !rules.is_empty() {
        said.rule = Some(Rules::Several(rules));
    }
    Ok(said)
}

/// What is asked, and how it stands.
fn shown(approval: &Approval, who: &Principal) -> String {
    let question = &approval.question;
    let arguments = serde_json::to_string_pretty(&question.arguments).unwrap_or_default();
    let mut body = format!(
        "<h1><code>{}</code></h1>\n<p>{} asks for this call of plugin {}, over {}, because {}.</p>\n",
        seen(&title(approval)),
        seen(question.caller.name()),
        seen(&question.subject.plugin),
        question.door.as_str(),
        text(question.reason.1),
    );
    if let Some(rule) = &question.rule {
        let _ = writeln!(body, "<p>The rule: <code>{}</code></p>", seen(rule));
    }
    let effect = if question.subject.side_effect { "The call changes something." } else { "The call only reads." };
    let _ = writeln!(body, "<p>{effect} Its arguments:</p>\n<pre><code>{}</code></pre>", seen_lines(&arguments));
    for line in &question.differences {
        let _ = writeln!(body, "<p class=\"bad\">changed since it was allowed: <code>{}</code></p>", seen(line));
    }
    if question.prose_changed {
        body.push_str("<p class=\"bad\">Its description has changed since it was allowed.</p>\n");
    }
    match &approval.state {
        Stands::Pending => ask(&mut body, approval, who),
        Stands::Answered(answer) => {
            let word = if answer.allowed { "Allowed" } else { "Denied" };
            let why = answer.reason.as_ref().map(|reason| format!(": {}", seen(reason))).unwrap_or_default();
            let _ = writeln!(body, "<p><strong>{word} by {}{why}</strong></p>", seen(&answer.by));
        }
        Stands::Lapsed => body.push_str("<p><strong>Lapsed: nobody has answered in time.</strong></p>\n"),
        Stands::Left => body.push_str("<p><strong>Over: the caller has left.</strong></p>\n"),
    }
    body.push_str(ALL);
    body
}

/// The forms, for who may answer.
fn ask(body: &mut String, approval: &Approval, who: &Principal) {
    let (question, id) = (&approval.question, text(&approval.id));
    if !who.has(Scope::Approve) || question.caller.name() == who.name() {
        let _ = writeln!(
            body,
            "<p>It waits for an answer, which is not for {} to give: another principal with the scope <code>approve</code> \
             signs in here or answers with <code>plugbay approvals</code>. <code>plugbay token add NAME --scope approve</code> makes \
             it a token, which <code>plugbay sign-in</code> and <code>plugbay approvals</code> take from \
             <code>PLUGBAY_TOKEN</code>.</p>",
            seen(who.name())
        );
        return;
    }
    let left = (approval.lapses - OffsetDateTime::now_utc()).whole_seconds().max(0);
    let lapses = approval.lapses.replace_nanosecond(0).unwrap_or(approval.lapses).format(&Rfc3339).unwrap_or_default();
    let digest = question.digest.to_string();
    let form = format!(
        "<form method=\"post\" action=\"/approvals/{id}\">\n<input type=\"hidden\" name=\"digest\" value=\"{digest}\">\n"
    );
    let _ = writeln!(
        body,
        "<p>It lapses in {left} s, at {lapses}. Answering as {}:</p>\n{form}<p><button name=\"decision\" \
         value=\"once\">Run it once</button></p>\n</form>",
        seen(who.name())
    );
    if !question.rules.is_empty() {
        let _ = write!(body, "{form}<p>");
        for rule in &question.rules {
            // All of a rule is seen, also its end.
            let _ = writeln!(
                body,
                "<textarea name=\"rule\" rows=\"2\" cols=\"80\" aria-label=\"rule\">{}</textarea>",
                text(rule)
            );
        }
        body.push_str(
            "<button name=\"decision\" value=\"always\">Allow always what this rule matches</button></p>\n</form>\n",
        );
    }
    let _ = writeln!(
        body,
        "{form}<p><input name=\"reason\" size=\"60\" aria-label=\"reason\" placeholder=\"why, for the caller\"> <button \
         name=\"decision\" value=\"deny\">Deny</button></p>\n</form>"
    );
}

fn title(approval: &Approval) -> String {
    let question = &approval.question;
    match &question.specifier {
        Some(specifier) => format!("{}({})", question.subject.tool, specifier.text),
        None => question.subject.tool.to_string(),
    }
}

/// Text as HTML in which a character that cannot be seen, or that moves others, is written out.
fn seen(raw: &str) -> String {
    text(&written_out(raw))
}

/// The same, with the ends of its lines as they are.
fn seen_lines(raw: &str) -> String {
    raw.lines().map(seen).collect::<Vec<_>>().join("\n")
}
