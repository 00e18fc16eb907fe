//! Paths of one's own: a bootloader does not say who it is, but its EEPROM's `HTTP_PATH` can. Where that is its serial number, it
//! gets the files that the fleet's file names for it, or is refused, so that it goes on in its `BOOT_ORDER`.

use std::sync::Arc;

use super::Site;
use super::path::FilePath;
use crate::clients::Identity;
use crate::fleet::file::Boot;
use crate::pi::PiSerial;

/// The path that is meant by `path`, of a request. One that is there as it stands means itself.
///
/// # Errors
/// Why there is nothing for who asks, in one line.
pub async fn path(site: &Arc<Site>, path: &str) -> Result<String, &'static str> {
    let Some((serial, rest)) = own(path) else { return Ok(path.to_owned()) };
    let Some(fleet) = &site.fleet else { return Ok(path.to_owned()) };
    let fleet = fleet.fleet();
    let assignment = fleet.assignment(Identity { serial: Some(serial), ..Identity::default() });
    if assignment.boot == Some(Boot::Local) {
        return Err("the fleet's file says that this Pi boots from itself");
    }
    let Some(files) = assignment.files else { return Ok(path.to_owned()) };
    let (site, asked) = (site.clone(), path.to_owned());
    let looked = move || FilePath::parse(&asked).is_ok_and(|path| site.root.has(&path));
    match tokio::task::spawn_blocking(looked).await {
        Ok(false) => Ok(format!("/{files}/{rest}")),
        Ok(true) | Err(_) => Ok(path.to_owned()),
    }
}

/// The serial number at the start of a path, and what comes behind it.
fn own(path: &str) -> Option<(PiSerial, &str)> {
    let (first, rest) = path.trim_start_matches('/').split_once('/')?;
    Some((first.parse().ok()?, rest.trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_leads_a_path() {
        assert_eq!(own("/abcdef01/boot.img"), Some((PiSerial(0xabcd_ef01), "boot.img")));
        assert_eq!(own("//10000000abcdef01//boot.img"), Some((PiSerial(0xabcd_ef01), "boot.img")));
        for other in ["/abcdef01", "/pi/boot.img", "/boot.img", "/", ""] {
            assert_eq!(own(other), None, "{other}");
        }
    }
}
