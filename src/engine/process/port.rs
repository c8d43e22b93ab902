//! Whether a child may be asked at the port that it names: it listens there, on loopback only, and nobody else does.
//!
//! Without this, a child that names another program's port (the host's own among them) would have the host send that
//! program its requests and secrets.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use procfs::net::{TcpNetEntry, TcpState, tcp, tcp6};
use procfs::process::{FDTarget, Process};

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
