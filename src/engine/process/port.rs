//! Whether a child may be asked at the port that it names: it listens there, on loopback only, and nobody else does.
//!
//! Without this, a child that names another program's port (the host's own among them) would have the host send that
//! program its requests and secrets; and so would one whose port another program has taken since. Hence two questions: a
//! thorough one when a child says that it is ready, and a quick one with each new connection, whether it is still the
//! same socket that listens there.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use procfs::net::{TcpNetEntry, TcpState, tcp, tcp6};
use procfs::process::{FDTarget, Process};
use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

/// A socket that listens, by what the kernel calls it: no other ever gets the name again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener(u64);

/// What a look at a port found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The child listens there, and only this machine reaches it.
    Good,
    /// Nobody listens there: perhaps not yet.
    Nobody,
    /// It is not to be asked; the text says why, and the cure.
    Bad(String),
}

/// Looks who listens at `port`, on behalf of the child whose processes have the ids `members`. Takes milliseconds: not
/// for a thread that others wait for.
pub fn look(port: u16, members: &[i32]) -> Found {
    let at_port = |entry: &TcpNetEntry| entry.state == TcpState::Listen && entry.local_address.port() == port;
    let entries = [tcp(), tcp6()].into_iter().flatten().flatten();
    let listening: Vec<TcpNetEntry> = entries.filter(at_port).collect();
    if listening.is_empty() {
        return Found::Nobody;
    }
    let own = sockets(members);
    let open = listening.iter().find(|entry| own.contains(&entry.inode) && !is_loopback(entry.local_address.ip()));
    if let Some(open) = open {
        return Found::Bad(format!(
            "it listens at {}, where other machines may reach it: let it listen on 127.0.0.1",
            open.local_address
        ));
    }
    // Whoever else listens there may be asked instead of it.
    let reached = |entry: &&TcpNetEntry| is_reached(entry.local_address.ip());
    match listening.iter().filter(reached).find(|entry| !own.contains(&entry.inode)) {
        Some(_) => Found::Bad(format!(
            "port {port}, which its ready line names, belongs to another process: let it listen on port 0 and print the \
             port that it got"
        )),
        None if listening.iter().any(|entry| is_reached(entry.local_address.ip())) => Found::Good,
        None => Found::Bad(format!(
            "it listens at {}, not at 127.0.0.1:{port}: let it listen on 127.0.0.1",
            listening[0].local_address
        )),
    }
}

/// Whom a connection to 127.0.0.1 at this port reaches now; `None` when nobody. Takes microseconds, or, where the kernel
/// gives no quick answer, milliseconds with many connections.
pub fn listener(port: u16) -> Option<Listener> {
    asked(port).unwrap_or_else(|_| {
        let entries = [tcp(), tcp6()].into_iter().flatten().flatten();
        let mut listening = entries.filter(|entry| {
            let address = entry.local_address;
            entry.state == TcpState::Listen && address.port() == port && is_reached(address.ip())
        });
        listening.next().map(|entry| Listener(entry.inode))
    })
}

/// The same, asked of the kernel (sock_diag(7)): one message, one answer.
fn asked(port: u16) -> io::Result<Option<Listener>> {
    let netlink = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(SOCK_DIAG))?;
    send(&netlink, &question(port), SendFlags::empty())?;
    let mut answer = [0; 512];
    // The kernel has answered before the question has returned.
    let (_, length) = recv(&netlink, &mut answer, RecvFlags::DONTWAIT)?;
    let found = |from: usize, bytes: usize| answer[..length].get(from..from + bytes);
    if found(4, 2) == Some(&ANSWER.to_ne_bytes()) {
        let cookie = found(HEADER_BYTES + 44, 8).and_then(|cookie| cookie.try_into().ok());
        return cookie
            .map(|cookie| Some(Listener(u64::from_ne_bytes(cookie))))
            .ok_or(io::ErrorKind::InvalidData.into());
    }
    match found(HEADER_BYTES, 4) {
        Some(error) if error == (-libc::ENOENT).to_ne_bytes() => Ok(None),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// `SOCK_DIAG_BY_FAMILY`: the kind of both messages.
const ANSWER: u16 = 20;
/// The bytes of `nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// A `nlmsghdr` and an `inet_diag_req_v2`: who listens where a connection to 127.0.0.1 at this port ends.
fn question(port: u16) -> [u8; 72] {
    let mut message = [0; 72];
    message[..4].copy_from_slice(&72_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&ANSWER.to_ne_bytes());
    // NLM_F_REQUEST
    message[6] = 1;
    let request = &mut message[HEADER_BYTES..];
    request[0] = libc::AF_INET as u8;
    request[1] = libc::IPPROTO_TCP as u8;
    // Every state.
    request[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    request[8..10].copy_from_slice(&port.to_be_bytes());
    request[12..16].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    // INET_DIAG_NOCOOKIE: whichever it is.
    request[48..56].fill(u8::MAX);
    message
}

/// The inodes of the sockets that these processes hold.
fn sockets(members: &[i32]) -> HashSet<u64> {
    let open = members.iter().filter_map(|pid| Process::new(*pid).and_then(|process| process.fd()).ok()).flatten();
    let socket = |target| if let FDTarget::Socket(inode) = target { Some(inode) } else { None };
    open.filter_map(Result::ok).filter_map(|descriptor| socket(descriptor.target)).collect()
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether who connects to 127.0.0.1 can end up at a listener of this address.
fn is_reached(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address == IpAddr::V4(Ipv4Addr::LOCALHOST) || address.is_unspecified()
}
