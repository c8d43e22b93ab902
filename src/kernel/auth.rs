//! Knows the credentials: tokens, sign-in codes and sessions, and whose they are.
//!
//! Of every secret only its SHA-256 digest is kept, but for the owner's token, which stands in a file of its own so that
//! the operator's own programs can read it. Nothing here knows where on a request a credential stands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::base::error::{Error, Kind, Result};
use crate::base::settings::{AuthMode, Settings};
use crate::kernel::secret::{Digest, TOKEN_PREFIX, digest_of, digest_of_hex, hex, is_token, random_text, same};
use crate::kernel::store::Store;

pub use crate::kernel::principal::{Principal, Scope, Scopes};

/// The principal of the operator.
pub const OWNER: &str = "owner";
/// The principal of everybody when no credential is asked for.
pub const LOCAL: &str = "local";

/// Holds the owner's token as text.
const OWNER_FILE: &str = "token";
/// Holds the digests of the added tokens.
const TOKENS_FILE: &str = "tokens.json";
/// How long a sign-in code can be used.
const SIGN_IN_TIME: Duration = Duration::from_secs(600);
/// How long a session lasts.
const SESSION_TIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many codes there may be of one principal and of all; the oldest makes room. No principal alone can push out the
/// link of another.
const CODES: Room = Room { own: 10, all: 1000 };
/// The same of sessions.
const SESSIONS: Room = Room { own: 100, all: 10_000 };
/// How many added tokens there may be.
const TOKENS: usize = 10_000;

/// What is kept of an added token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// The name of its principal.
    pub name: Arc<str>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// The token's SHA-256, as hexadecimal digits.
    digest: String,
}

/// Knows the credentials. A cheap handle: clones share everything.
#[derive(Clone)]
pub struct Auth {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    cookie: Arc<str>,
    anonymous: Option<Principal>,
    /// What requests are checked against; replaced as a whole.
    tokens: ArcSwap<Tokens>,
    /// Held while tokens are changed, so that two changes cannot lose one another.
    changes: Mutex<()>,
    /// Sign-in codes that were not used, oldest first.
    codes: Mutex<Vec<Pass>>,
    /// Signed-in browsers, oldest first.
    sessions: Mutex<Vec<Pass>>,
}

/// A code or a session: for whom, and how long.
struct Pass {
    digest: Digest,
    until: Instant,
    principal: Principal,
}

/// How many passes are kept.
struct Room {
    own: usize,
    all: usize,
}

/// The credentials of one moment.
struct Tokens {
    owner: Arc<str>,
    records: Vec<TokenRecord>,
    /// By the first eight bytes of the digest: the rest is compared in constant time.
    holders: HashMap<[u8; 8], Holder>,
}

#[derive(Clone)]
struct Holder {
    digest: Digest,
    principal: Principal,
}

impl Auth {
    /// Reads the credentials; at the first start, makes the owner's.
    ///
    /// # Errors
    /// `Malformed`: a file of credentials is not what this host wrote; nobody is let in on a guess. `Unavailable`: it
    /// cannot be read or written.
    pub fn open(settings: &Settings, store: &Store) -> Result<Self> {
        let owner = read_owner(store)?;
        let records = read_tokens(store)?;
        let mut holders = HashMap::new();
        hold(&mut holders, digest_of(owner.as_bytes()), Principal::new(OWNER, Scopes::ALL));
        for record in &records {
            let digest = digest_of_hex(&record.digest)
                .ok_or_else(|| bad_tokens(store, "a digest is not 64 hexadecimal digits"))?;
            let principal = Principal::until(record.name.clone(), Scopes::of(&record.scopes), record.expires);
            if !hold(&mut holders, digest, principal) {
                return Err(bad_tokens(store, "two tokens have one digest"));
            }
        }
        let anonymous = match settings.auth {
            AuthMode::Token => None,
            AuthMode::None => Some(Principal::new(LOCAL, Scopes::of(&[Scope::Call, Scope::Admin]))),
        };
        let instance = hex(&digest_of(store.home().as_os_str().as_encoded_bytes())[..4]);
        Ok(Self {
            shared: Arc::new(Shared {
                store: store.clone(),
                cookie: format!("plugbay_{instance}").into(),
                anonymous,
                tokens: ArcSwap::from_pointee(Tokens { owner, records, holders }),
                changes: Mutex::default(),
                codes: Mutex::default(),
                sessions: Mutex::default(),
            }),
        })
    }

    /// The owner's token.
    pub fn owner_token(&self) -> Arc<str> {
        self.shared.tokens.load().owner.clone()
    }

    /// The owner, as whom the host's own process acts.
    pub fn owner(&self) -> Principal {
        let tokens = self.shared.tokens.load();
        tokens.find(tokens.owner.as_bytes()).expect("the owner's token is always among the tokens")
    }

    /// Who asks without a credential, where that is allowed (`--auth none`).
    pub fn anonymous(&self) -> Option<Principal> {
        self.shared.anonymous.clone()
    }

    /// Whose token this is; `None` when it is unknown, taken back or expired. Takes no lock.
    pub fn token(&self, token: &[u8]) -> Option<Principal> {
        self.shared.tokens.load().find(token).filter(|principal| !principal.is_revoked())
    }

    /// The name of the session cookie, the same for every start from one home folder: cookies know no ports, so two
    /// hosts on one machine need two names.
    pub fn cookie_name(&self) -> &str {
        &self.shared.cookie
    }

    /// Whose session this is; `None` when it is unknown or over, or its principal was taken back.
    pub fn session(&self, id: &[u8]) -> Option<Principal> {
        let digest = digest_of(id);
        let sessions = locked(&self.shared.sessions);
        let visit = sessions.iter().find(|visit| same(&visit.digest, &digest))?;
        visit.is_valid().then(|| visit.principal.clone())
    }

    /// A code that signs a browser in as that principal, once, within ten minutes.
    ///
    /// # Errors
    /// `Internal`: the system gives no random bytes.
    pub fn offer_sign_in(&self, principal: Principal) -> Result<String> {
        let code = random_text()?;
        let kept = Pass { digest: digest_of(code.as_bytes()), until: Instant::now() + SIGN_IN_TIME, principal };
        push(&mut locked(&self.shared.codes), kept, &CODES);
        Ok(code)
    }

    /// Whom a sign-in code would sign a browser in as. Looking does not use it up.
    ///
    /// # Errors
    /// `Unauthenticated`: the code is unknown, was used or is too old.
    pub fn offered(&self, code: &str) -> Result<Principal> {
        let digest = digest_of(code.as_bytes());
        let codes = locked(&self.shared.codes);
        let found = codes.iter().find(|code| same(&code.digest, &digest)).filter(|code| code.is_valid());
        found.map(|code| code.principal.clone()).ok_or_else(no_code)
    }

    /// Turns a sign-in code into a session: the text that the cookie holds.
    ///
    /// # Errors
    /// `Unauthenticated`: the code is unknown, was used or is too old. `Internal`: no random bytes.
    pub fn sign_in(&self, code: &str) -> Result<String> {
        let id = random_text()?;
        let digest = digest_of(code.as_bytes());
        let found = {
            let mut codes = locked(&self.shared.codes);
            let place = codes.iter().position(|code| same(&code.digest, &digest));
            place.map(|place| codes.remove(place))
        };
        let Pass { principal, .. } = found.filter(Pass::is_valid).ok_or_else(no_code)?;
        let visit = Pass { digest: digest_of(id.as_bytes()), until: Instant::now() + SESSION_TIME, principal };
        push(&mut locked(&self.shared.sessions), visit, &SESSIONS);
        Ok(id)
    }

    /// Ends a session. True when there was one.
    pub fn sign_out(&self, id: &[u8]) -> bool {
        let digest = digest_of(id);
        let mut sessions = locked(&self.shared.sessions);
        let before = sessions.len();
        sessions.retain(|visit| !same(&visit.digest, &digest));
        sessions.len() < before
    }

    /// The added tokens, oldest first.
    pub fn list(&self) -> Vec<TokenRecord> {
        self.shared.tokens.load().records.clone()
    }

    /// Makes a token for a new principal, valid for `days` or for ever. Returns the token, which is not kept, and what
    /// is. Blocks until it is on the disk.
    ///
    /// # Errors
    /// `Invalid`: a bad name, no scope, or a bad number of days. `Conflict`: the name is taken. `Busy`: there are too
    /// many. `Unavailable`: it cannot be written; then it does not exist.
    pub fn add(&self, name: &str, scopes: Scopes, days: Option<u32>) -> Result<(String, TokenRecord)> {
        self.add_by(None, name, scopes, days)
    }

    /// The same as the wish of `maker`, whose token must count until no revocation can come between.
    ///
    /// # Errors
    /// As [`Auth::add`]. `Unauthenticated`: the maker's token was taken back; then nothing is made.
    pub fn add_by(
        &self,
        maker: Option<&Principal>,
        name: &str,
        scopes: Scopes,
        days: Option<u32>,
    ) -> Result<(String, TokenRecord)> {
        check_new(name, scopes, days)?;
        let _alone = locked(&self.shared.changes);
        // Revoking holds the same lock.
        maker.map_or(Ok(()), Principal::still_counts)?;
        let old = self.shared.tokens.load_full();
        if name == OWNER || name == LOCAL || old.records.iter().any(|record| *record.name == *name) {
            let message = format!("there is a principal {name:?} already: revoke it first, or choose another name");
            return Err(Error::new(Kind::Conflict, message));
        }
        if old.records.len() >= TOKENS {
            return Err(Error::new(Kind::Busy, format!("there are {TOKENS} tokens already: revoke some first")));
        }
        let token = format!("{TOKEN_PREFIX}{}", random_text()?);
        let digest = digest_of(token.as_bytes());
        let created = OffsetDateTime::now_utc();
        let expires = days.map(|days| created + Duration::from_secs(u64::from(days) * 24 * 3600));
        let record =
            TokenRecord { name: name.into(), scopes: scopes.each().collect(), created, expires, digest: hex(&digest) };
        let mut new = old.successor();
        new.records.push(record.clone());
        let principal = Principal::until(record.name.clone(), scopes, expires);
        if !hold(&mut new.holders, digest, principal) {
            return Err(Error::new(Kind::Internal, "the system's random bytes repeat themselves"));
        }
        self.keep(new)?;
        Ok((token, record))
    }

    /// Takes a token back: its sockets close at once. The owner's is replaced by a new one in the file `token`, which
    /// also ends its sessions. Blocks until it is on the disk.
    ///
    /// # Errors
    /// `NotFound`: nobody has that name. `Unavailable`: it cannot be written; then nothing has changed.
    pub fn revoke(&self, name: &str) -> Result<()> {
        if name == OWNER {
            return self.rotate_owner();
        }
        let _alone = locked(&self.shared.changes);
        let old = self.shared.tokens.load_full();
        let mut new = old.successor();
        new.records.retain(|record| *record.name != *name);
        new.holders.retain(|_, holder| holder.principal.name() != name);
        if new.records.len() == old.records.len() {
            let message = format!("there is no token of a principal {name:?}: `plugbay token list` shows all");
            return Err(Error::new(Kind::NotFound, message));
        }
        self.keep(new)?;
        old.cancel(name);
        Ok(())
    }

    fn rotate_owner(&self) -> Result<()> {
        let _alone = locked(&self.shared.changes);
        let old = self.shared.tokens.load_full();
        let mut new = old.successor();
        new.owner = make_owner(&self.shared.store)?;
        new.holders.retain(|_, holder| holder.principal.name() != OWNER);
        hold(&mut new.holders, digest_of(new.owner.as_bytes()), Principal::new(OWNER, Scopes::ALL));
        self.shared.tokens.store(Arc::new(new));
        old.cancel(OWNER);
        Ok(())
    }

    /// Writes the added tokens, then lets requests be checked against them.
    fn keep(&self, tokens: Tokens) -> Result<()> {
        let text = serde_json::to_vec_pretty(&Kept { version: 1, tokens: tokens.records.clone() })
            .map_err(|error| Error::new(Kind::Internal, "the tokens cannot be written as JSON").with_source(error))?;
        self.shared.store.write(TOKENS_FILE, &text)?;
        self.shared.tokens.store(Arc::new(tokens));
        Ok(())
    }
}

impl Tokens {
    fn find(&self, token: &[u8]) -> Option<Principal> {
        let digest = digest_of(token);
        let holder = self.holders.get(&start_of(&digest))?;
        same(&holder.digest, &digest).then(|| holder.principal.clone())
    }

    fn successor(&self) -> Self {
        Self { owner: self.owner.clone(), records: self.records.clone(), holders: self.holders.clone() }
    }

    fn cancel(&self, name: &str) {
        for holder in self.holders.values().filter(|holder| holder.principal.name() == name) {
            holder.principal.revoke();
        }
    }
}

/// What `tokens.json` holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    tokens: Vec<TokenRecord>,
}

fn read_tokens(store: &Store) -> Result<Vec<TokenRecord>> {
    let Some(bytes) = store.read(TOKENS_FILE)? else { return Ok(Vec::new()) };
    let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| bad_tokens(store, &error.to_string()))?;
    if kept.version != 1 {
        return Err(bad_tokens(store, &format!("it has version {}, this host reads 1", kept.version)));
    }
    Ok(kept.tokens)
}

fn bad_tokens(store: &Store, why: &str) -> Error {
    let path = store.home().join(TOKENS_FILE);
    let message = format!(
        "cannot read the tokens in {}: {why}; put back a good copy, or remove the file and add the tokens anew with \
         `plugbay token add`",
        path.display()
    );
    Error::new(Kind::Malformed, message)
}

fn read_owner(store: &Store) -> Result<Arc<str>> {
    let Some(bytes) = store.read(OWNER_FILE)? else {
        let token = new_owner()?;
        store.write_behind(OWNER_FILE, format!("{token}\n").into_bytes())?;
        return Ok(token.into());
    };
    let text = bytes.trim_ascii();
    match std::str::from_utf8(text) {
        Ok(text) if is_token(text) => Ok(text.into()),
        _ => {
            let path = store.home().join(OWNER_FILE);
            let message =
                format!("{} does not hold a token: remove it, and the next start makes a new one", path.display());
            Err(Error::new(Kind::Malformed, message))
        }
    }
}

fn make_owner(store: &Store) -> Result<Arc<str>> {
    let token = new_owner()?;
    store.write(OWNER_FILE, format!("{token}\n").as_bytes())?;
    Ok(token.into())
}

fn new_owner() -> Result<String> {
    Ok(format!("{TOKEN_PREFIX}{}", random_text()?))
}

fn no_code() -> Error {
    let message =
        "this sign-in link is unknown, was used, or is older than ten minutes: `plugbay sign-in` prints a new one";
    Error::new(Kind::Unauthenticated, message)
}

fn check_new(name: &str, scopes: Scopes, days: Option<u32>) -> Result<()> {
    let alphabet = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
    if !(1..=64).contains(&name.len()) || !name.bytes().all(alphabet) {
        let shown: String = name.chars().take(80).collect();
        let message = format!(
            "principal {shown:?} is not valid: use 1 to 64 letters, digits, \"_\", \"-\" and \".\", for example ci-bot"
        );
        return Err(Error::new(Kind::Invalid, message));
    }
    if scopes == Scopes::default() {
        return Err(Error::new(Kind::Invalid, "a token needs a scope: give call, approve or admin, or several"));
    }
    if days.is_some_and(|days| !(1..=36_500).contains(&days)) {
        return Err(Error::new(
            Kind::Invalid,
            "a token lasts from 1 to 36500 days; give no number for one without end",
        ));
    }
    Ok(())
}

/// False when another digest begins with the same eight bytes.
fn hold(holders: &mut HashMap<[u8; 8], Holder>, digest: Digest, principal: Principal) -> bool {
    holders.insert(start_of(&digest), Holder { digest, principal }).is_none()
}

fn start_of(digest: &Digest) -> [u8; 8] {
    let mut start = [0; 8];
    start.copy_from_slice(&digest[..8]);
    start
}

impl Pass {
    fn is_valid(&self) -> bool {
        self.until > Instant::now() && !self.principal.is_revoked()
    }
}

/// Adds to a list that is kept oldest first; what is of no use any more goes, then the principal's own oldest.
fn push(list: &mut Vec<Pass>, pass: Pass, room: &Room) {
    list.retain(Pass::is_valid);
    let own = |kept: &Pass| kept.principal.name() == pass.principal.name();
    if list.iter().filter(|kept| own(kept)).count() >= room.own
        && let Some(oldest) = list.iter().position(own)
    {
        list.remove(oldest);
    } else if list.len() >= room.all {
        list.remove(0);
    }
    list.push(pass);
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
