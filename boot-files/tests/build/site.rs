//! One operator's folder: an `image.toml`, a cache, an output folder.

use crate::repository::Repository;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder to build in.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    apt: PathBuf,
    key: PathBuf,
}

impl Site {
    /// A site that uses the repository as it is.
    pub(crate) fn new() -> Site {
        let repository = Repository::get();
        let site = Site {
            folder: tempfile::tempdir().unwrap(),
            apt: repository.path("apt"),
            key: repository.path("key.gpg"),
        };
        std::fs::write(site.path("id.pub"), "ssh-ed25519 AAAA someone@somewhere\n").unwrap();
        site.configure("");
        site
    }

    /// A site with a repository of its own, which may be damaged.
    pub(crate) fn with_own_repository() -> Site {
        let mut site = Site::new();
        Repository::get().copy(site.folder.path());
        site.apt = site.path("apt");
        site.configure("");
        site
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its repository.
    pub(crate) fn apt(&self) -> &Path {
        &self.apt
    }

    /// Writes an `image.toml` with this added.
    pub(crate) fn configure(&self, more: &str) {
        self.configure_kernel("linux-image-test", "[\"a-driver\", \"loop\", \"nosuch?\"]", more);
    }

    /// Writes an `image.toml` with that kernel package and those modules, and the rest added.
    pub(crate) fn configure_kernel(&self, package: &str, modules: &str, more: &str) {
        let minimal = include_str!("../../profiles/minimal.toml");
        let profile: toml::Value = toml::from_str(minimal).unwrap();
        let names: Vec<_> =
            profile["kernel"]["modules"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
        let drop: Vec<_> = names.iter().map(|name| format!("{:?}", name.trim_end_matches('?'))).collect();
        let text = format!(
            "format = 1\nname = \"test\"\nprofile = \"minimal\"\nsuite = \"none\"\n[[repository]]\nuris = [\"copy:{}\"]\n\
             suites = [\"./\"]\nsigned_by = {:?}\n[kernel]\npackage = \"{package}\"\nmodules = {modules}\n\
             drop_modules = [{}]\ndevice_trees = [\"bcm2711-rpi-4-b.dtb\", \"bcm2711-rpi-cm4.dtb\"]\n\
             [access]\nauthorized_keys = [\"id.pub\"]\n{more}",
            self.apt.display(),
            self.key,
            drop.join(", ")
        );
        std::fs::write(self.path("image.toml"), text).unwrap();
    }

    /// Makes the repository's key another one.
    pub(crate) fn trust(&mut self, key: PathBuf) {
        self.key = key;
        self.configure("");
    }

    /// The arguments of a build.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        vec![
            "build".into(),
            text(self.path("image.toml")),
            "-o".into(),
            text(self.path("out")),
            "--cache".into(),
            text(self.path("cache")),
            "--device-binaries".into(),
            text(Repository::get().path("device")),
        ]
    }

    /// Builds, with more arguments.
    pub(crate) fn build(&self, more: &[&str]) -> Output {
        boot_files().args(self.arguments()).args(more).output().unwrap()
    }

    /// Builds, which has to work. Returns what it said.
    pub(crate) fn built(&self, more: &[&str]) -> String {
        let output = self.build(more);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }

    /// Builds, which has to be refused with one line, code 1 and nothing in the output folder. Returns the line.
    pub(crate) fn refused(&self, more: &[&str]) -> String {
        let output = self.build(&[&["--quiet"], more].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("warning: ")).collect();
        assert_eq!(lines.len(), 1, "a refusal is one line: {said}");
        let left = std::fs::read_dir(self.path("out")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "something was left in the output folder");
        lines[0].to_owned()
    }
}

/// The program, with nothing of the caller's in its environment that changes what it does.
pub(crate) fn boot_files() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boot-files"));
    command.env_remove("SOURCE_DATE_EPOCH").env_remove("LIFEBOAT_CACHE");
    command
}
