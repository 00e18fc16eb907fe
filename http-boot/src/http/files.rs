//! Answers with files from the root.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::body::FileBody;
use super::conditions::{self, Version};
use super::path::{FilePath, PathError};
use super::range::{self, Span, Wanted};
use super::wire::Outgoing;
use super::{Peer, Site, devices, text};
use crate::web;

/// The folder whose files are served, held open.
#[derive(Debug)]
pub struct Root {
    folder: OwnedFd,
    path: PathBuf,
}

/// Why a file is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none.
    NotFound,
    /// It leads out of the root, or the server may not read it.
    Denied(Errno),
    /// It cannot be read.
    Failed(Errno),
}

impl Root {
    /// Opens the folder.
    ///
    /// # Errors
    /// When it is missing, no folder or unreadable, or the kernel (before 5.6) or a sandbox has no `openat2`.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => {
                bail!("the root {} does not exist: make it, or name another with --root", path.display())
            }
            Err(Errno::NOTDIR) => bail!("the root {} is not a folder", path.display()),
            Err(error) => return Err(error).with_context(|| format!("opening the root {}", path.display())),
        };
        let root = Self { folder, path: path.to_owned() };
        match root.open_below(Path::new("."), OFlags::DIRECTORY) {
            Ok(_) => Ok(root),
            Err(error) => Err(error).context(
                "opening below the root with openat2 (needs Linux 5.6, and a sandbox that permits it)",
            ),
        }
    }

    /// Opens a path below the root. The kernel refuses (EXDEV) whatever leads out of it, also by a symlink, also when
    /// someone changes folders meanwhile.
    pub(crate) fn open_below(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        // NONBLOCK: a FIFO must not hold up a thread until someone writes to it.
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: a rename went on meanwhile, and the kernel could not be sure.
        for _ in 0..8 {
            match rustix::fs::openat2(&self.folder, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn file(&self, path: &FilePath) -> Result<(OwnedFd, Version), Refused> {
        let file = self.open_below(path.as_path(), OFlags::empty()).map_err(|error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG | Errno::NXIO => Refused::NotFound,
            Errno::XDEV | Errno::LOOP | Errno::ACCESS | Errno::PERM => Refused::Denied(error),
            error => Refused::Failed(error),
        })?;
        let stat = rustix::fs::fstat(&file).map_err(Refused::Failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((file, Version::from(&stat))),
            _ => Err(Refused::NotFound),
        }
    }

    /// The same for a file that the kernel finds without asking a disk (RESOLVE_CACHED, Linux 5.12). `None` says nothing of
    /// others.
    fn file_at_once(&self, path: &FilePath) -> Option<(OwnedFd, Version)> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::CACHED;
        let file = rustix::fs::openat2(&self.folder, path.as_path(), flags, Mode::empty(), resolve).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        is_file.then(|| (file, Version::from(&stat)))
    }

    /// Whether there is such a file.
    pub fn has(&self, path: &FilePath) -> bool {
        self.file(path).is_ok()
    }

    /// The bytes of a small file; `None` where there is none, it cannot be read, or it is longer than `limit` bytes.
    pub fn read(&self, path: &FilePath, limit: usize) -> Option<Vec<u8>> {
        let (file, version) = self.file(path).ok()?;
        let size = usize::try_from(version.size).ok().filter(|size| *size <= limit)?;
        let mut bytes = Vec::with_capacity(size);
        let limit = u64::try_from(limit).ok()?;
        std::io::Read::read_to_end(&mut std::io::Read::take(std::fs::File::from(file), limit), &mut bytes)
            .ok()?;
        Some(bytes)
    }

    /// Whether there is such a folder.
    pub fn has_folder(&self, path: &FilePath) -> bool {
        self.open_below(path.as_path(), OFlags::DIRECTORY).is_ok()
    }

    /// Logs why a path is not served, where that is more than that it is not there.
    pub fn explain(&self, path: &FilePath, why: Refused) {
        let file = self.path.join(path.as_path());
        match why {
            Refused::NotFound => {}
            Refused::Denied(Errno::XDEV) => tracing::warn!(
                "not serving {}: a symlink leads out of the root (links must be relative and stay in it)",
                file.display()
            ),
            Refused::Denied(error) => tracing::warn!("not serving {}: {error}", file.display()),
            Refused::Failed(error) => tracing::error!("reading {}: {error}", file.display()),
        }
    }

    /// The status and line for a path that is not served. Who asks learns no more than "no such file"; the log says why.
    fn refuse(&self, path: &FilePath, why: Refused) -> (StatusCode, &'static str) {
        self.explain(path, why);
        match why {
            Refused::NotFound | Refused::Denied(_) => (StatusCode::NOT_FOUND, "no such file"),
            Refused::Failed(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "the file cannot be read; the server's log says why")
            }
        }
    }
}

/// `GET` and `HEAD` of anything that is not the API's.
pub async fn answer(
    State(site): State<Arc<Site>>,
    Extension(Peer { address: peer, .. }): Extension<Peer>,
    outgoing: Option<Extension<Outgoing>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if method != Method::GET && method != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "files take GET and HEAD only");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if web::wants_the_page(uri.path(), &headers) {
        return web::go_to_the_page();
    }
    site.saw_agent(peer, &headers);
    match devices::path(&site, uri.path()).await {
        Ok(path) => {
            let outgoing = outgoing.map(|Extension(outgoing)| outgoing);
            file_at(site, &path, &method, &headers, outgoing).await
        }
        Err(line) => text(StatusCode::NOT_FOUND, line),
    }
}

/// Answers with the file at a URL's path. `outgoing`: what the connection sends files with, if it can.
pub async fn file_at(
    site: Arc<Site>,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
    outgoing: Option<Outgoing>,
) -> Response {
    let path = match FilePath::parse(path) {
        Ok(path) => path,
        Err(error @ PathError::BadEscape) => return text(StatusCode::BAD_REQUEST, error),
        Err(error) => return text(StatusCode::NOT_FOUND, error),
    };
    // To ask another thread costs more than to open a file.
    if let Some(opened) = site.root.file_at_once(&path) {
        return file_response(opened, path.as_path(), method, headers, outgoing);
    }
    let opened = tokio::task::spawn_blocking(move || {
        let opened = site.root.file(&path).map_err(|why| site.root.refuse(&path, why));
        opened.map(|(file, version)| (file, version, path))
    });
    match opened.await {
        Ok(Ok((file, version, path))) => {
            file_response((file, version), path.as_path(), method, headers, outgoing)
        }
        Ok(Err((status, line))) => text(status, line),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the server failed while opening the file"),
    }
}

fn file_response(
    (file, version): (OwnedFd, Version),
    path: &Path,
    method: &Method,
    headers: &HeaderMap,
    outgoing: Option<Outgoing>,
) -> Response {
    let size = version.size;
    let mut response = Response::new(Body::empty());
    describe(response.headers_mut(), &version, path);
    if conditions::is_known(&version, headers) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    let range = headers.get(header::RANGE).and_then(|v| v.to_str().ok());
    // RFC 9110, section 14.2: a Range is for GET alone.
    let range = range.filter(|_| method == Method::GET && conditions::range_counts(&version, headers));
    let span = match range.map_or(Wanted::Whole, |header| range::parse(header, size)) {
        Wanted::Whole => Span { start: 0, length: size },
        Wanted::Part(span) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let last = span.start + span.length - 1;
            put(
                response.headers_mut(),
                header::CONTENT_RANGE,
                &format!("bytes {}-{last}/{size}", span.start),
            );
            span
        }
        Wanted::Unsatisfiable => {
            let mut response = text(StatusCode::RANGE_NOT_SATISFIABLE, format!("the file has {size} bytes"));
            put(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{size}"));
            return response;
        }
    };
    put(response.headers_mut(), header::CONTENT_LENGTH, &span.length.to_string());
    if method == Method::GET {
        *response.body_mut() = Body::new(FileBody::new(file, version, span, outgoing));
    }
    response
}

fn describe(headers: &mut HeaderMap, version: &Version, path: &Path) {
    put(headers, header::ETAG, &version.etag());
    put(headers, header::LAST_MODIFIED, &httpdate::fmt_http_date(version.modified()));
    put(headers, header::ACCEPT_RANGES, "bytes");
    // Proxies may keep a file, but ask each time whether it is still the one.
    put(headers, header::CACHE_CONTROL, "no-cache, no-transform");
    let kind = match path.extension().and_then(|e| e.to_str()) {
        Some("json") => "application/json",
        Some("html") => "text/html; charset=utf-8",
        Some("txt" | "sig" | "minisig" | "pub" | "pem" | "toml") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    put(headers, header::CONTENT_TYPE, kind);
    if kind.starts_with("text/html") {
        // It comes from the same place as the page for people, whose forms its scripts shall not fill in.
        put(headers, header::CONTENT_SECURITY_POLICY, "sandbox");
    }
}

fn put(headers: &mut HeaderMap, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
