//! The certificate authorities that the image trusts for HTTPS: Debian's ca-certificates as one file.

use crate::store::Store;
use crate::tree::{Entry, Node, Origin, Tree};
use anyhow::{Result, ensure};

const PACKAGE: &str = "ca-certificates";
const FOLDER: &str = "usr/share/ca-certificates/";
/// Where OpenSSL, curl and rustls look for it.
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// Adds the bundle to the tree.
///
/// # Errors
/// If the package does not exist, or has no certificates.
pub fn add(tree: &mut Tree, store: &mut Store<'_>) -> Result<()> {
    store.load([PACKAGE])?;
    let deb = store.deb(PACKAGE)?;
    let mut bundle = Vec::new();
    for (path, entry) in &deb.files {
        if let Node::File(certificate) = &entry.node
            && path.starts_with(FOLDER)
            && path.ends_with(".crt")
        {
            bundle.extend(certificate);
            bundle.push(b'\n');
        }
    }
    ensure!(!bundle.is_empty(), "package {PACKAGE} has no certificates in /{FOLDER}");
    tree.add(BUNDLE, Entry { node: Node::File(bundle), mode: 0o644, origin: Origin::from(&deb.package) })
}
