//! The packages of a build: looked up, downloaded and opened once each.

use crate::apt::Apt;
use crate::deb::Deb;
use crate::package::Package;
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};

/// Packages by name.
#[derive(Debug)]
pub struct Store<'a> {
    apt: &'a Apt,
    progress: &'a Progress,
    debs: BTreeMap<String, Deb>,
    used: BTreeMap<String, Package>,
}

impl<'a> Store<'a> {
    /// An empty store that fills itself from `apt`.
    pub fn new(apt: &'a Apt, progress: &'a Progress) -> Store<'a> {
        Store { apt, progress, debs: BTreeMap::new(), used: BTreeMap::new() }
    }

    /// What the repositories have by these names.
    ///
    /// # Errors
    /// If one does not exist.
    pub fn find<'b>(&self, names: impl IntoIterator<Item = &'b str>) -> Result<Vec<Package>> {
        let names: Vec<_> = names.into_iter().collect();
        let mut found = self.apt.show(names.iter().copied())?;
        let missing: Vec<_> = names.iter().copied().filter(|name| !found.contains_key(*name)).collect();
        if !missing.is_empty() {
            bail!("package {} does not exist for arm64 in the configured repositories", missing.join(", "));
        }
        Ok(names.iter().filter_map(|name| found.remove(*name)).collect())
    }

    /// Which of these packages the repositories have.
    ///
    /// # Errors
    /// If apt fails.
    pub fn existing(&self, names: impl IntoIterator<Item = String>) -> Result<BTreeSet<String>> {
        let names: BTreeSet<_> = names.into_iter().collect();
        Ok(self.apt.show(names.iter().map(String::as_str))?.into_keys().collect())
    }

    /// Downloads packages without opening them, and notes that the image uses them.
    ///
    /// # Errors
    /// If a download fails.
    pub fn fetch(&mut self, packages: &[&Package]) -> Result<()> {
        self.apt.fetch(packages, self.progress)?;
        self.used.extend(packages.iter().map(|package| (package.name.clone(), (*package).clone())));
        Ok(())
    }

    /// Downloads and opens packages.
    ///
    /// # Errors
    /// If one does not exist or a download fails.
    pub fn load<'b>(&mut self, names: impl IntoIterator<Item = &'b str>) -> Result<()> {
        let names: Vec<_> = names.into_iter().filter(|name| !self.debs.contains_key(*name)).collect();
        let packages = self.find(names)?;
        self.fetch(&packages.iter().collect::<Vec<_>>())?;
        for package in packages {
            let deb = Deb::read(&self.apt.archive(&package), &package)?;
            self.debs.insert(package.name.clone(), deb);
        }
        Ok(())
    }

    /// A package that was loaded.
    ///
    /// # Errors
    /// If it was not.
    pub fn deb(&self, name: &str) -> Result<&Deb> {
        self.debs.get(name).with_context(|| format!("package {name} was not loaded"))
    }

    /// All that were loaded.
    pub fn loaded(&self) -> impl Iterator<Item = &Deb> {
        self.debs.values()
    }

    /// All that were downloaded for this build.
    pub fn used(&self) -> impl Iterator<Item = &Package> {
        self.used.values()
    }

    /// Where a fetched package's file is.
    pub fn archive(&self, package: &Package) -> std::path::PathBuf {
        self.apt.archive(package)
    }
}
