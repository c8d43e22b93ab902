//! The certificate and key of the operator as a TLS acceptor.

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;

use crate::base::error::{Error, Kind, Result};

/// The name of HTTP/2 in ALPN (RFC 9113 §3.1).
pub const H2: &[u8] = b"h2";

/// Reads a certificate chain and its key, both PEM; the result offers HTTP/2 and HTTP/1.1 by ALPN.
///
/// # Errors
/// `Invalid`: a file cannot be read, holds no PEM of its sort, or key and certificate do not belong together.
pub fn acceptor(chain: &Path, key: &Path) -> Result<TlsAcceptor> {
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable("certificate", chain, &error))?;
    if certificates.is_empty() {
        return Err(unreadable("certificate", chain, &"it holds no certificate"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("key", key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|error| unreadable("certificate", chain, &error))?;
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn unreadable(what: &str, file: &Path, why: &dyn std::fmt::Display) -> Error {
    let message =
        format!("cannot use the TLS {what} in {}: {why}; give a PEM file that this user can read", file.display());
    Error::new(Kind::Invalid, message)
}
