//! The settings that a bootloader knows. The names are those that its code has in it (BCM2711, 2026-05-17) and that
//! Raspberry Pi's documentation has; so are defaults and limits, where there are any.

/// What a setting's value has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 0 or 1.
    Flag,
    /// A number of at least this many and at most that many.
    Number(i64, i64),
    /// Places to boot from.
    BootOrder,
    /// An IPv4 address, or nothing.
    Address,
    /// A host's name or address, without scheme, port or slash.
    Host,
    /// A path on a server.
    UrlPath,
    /// `dc:a6:32:01:36:c2`, or nothing.
    Mac,
    /// 64 hexadecimal digits, or nothing.
    Sha256,
    /// Text of at most this many characters.
    Text(usize),
    /// Whatever it is: not documented.
    Any,
}

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub form: Form,
    /// What holds without it. Empty if that is nothing, or not documented.
    pub default: &'static str,
}

const U32: i64 = 0xffff_ffff;

/// All of them, in the order of their names.
pub const KEYS: &[Key] = &[
    key("BOOT_MENU_OPTIONS", Form::Any, ""),
    key("BOOT_ORDER", Form::BootOrder, "0xf41"),
    key("BOOT_UART", Form::Flag, "0"),
    key("BOOT_WATCHDOG_PARTITION", Form::Number(0, 63), "0"),
    key("BOOT_WATCHDOG_TIMEOUT", Form::Number(0, U32), "0"),
    key("CLIENT_IP", Form::Address, ""),
    key("DHCP_OPTION97", Form::Number(0, U32), "0x34695052"),
    key("DHCP_REQ_TIMEOUT", Form::Number(500, U32), "4000"),
    key("DHCP_TIMEOUT", Form::Number(5000, U32), "45000"),
    key("DISABLE_HDMI", Form::Flag, "0"),
    key("DNS_IP", Form::Address, ""),
    key("ENABLE_SELF_UPDATE", Form::Flag, "1"),
    key("FREEZE_VERSION", Form::Flag, "0"),
    key("GATEWAY", Form::Address, ""),
    key("HDMI_DELAY", Form::Number(0, U32), ""),
    key("HTTP_CACERT_HASH", Form::Sha256, ""),
    key("HTTP_HOST", Form::Host, "fw-download-alias1.raspberrypi.com"),
    key("HTTP_PATH", Form::UrlPath, "net_install"),
    key("HTTP_PORT", Form::Number(1, 65535), "80"),
    key("IMAGER_REPO_URL", Form::Any, ""),
    key("MAC_ADDRESS", Form::Mac, ""),
    key("MAC_ADDRESS_OTP", Form::Any, ""),
    key("MAX_RESTARTS", Form::Number(-1, U32), "-1"),
    key("NETCONSOLE", Form::Text(32), ""),
    key("NET_BOOT_MAX_RETRIES", Form::Number(-1, U32), "0"),
    key("NET_INSTALL_AT_POWER_ON", Form::Flag, "0"),
    key("NET_INSTALL_ENABLED", Form::Flag, ""),
    key("NET_INSTALL_KEYBOARD_WAIT", Form::Number(0, U32), "900"),
    key("NVME_CONTROLLER", Form::Any, ""),
    key("PARTITION", Form::Number(0, 63), "0"),
    key("PARTITION_WALK", Form::Flag, "1"),
    key("PCIE_PROBE", Form::Flag, ""),
    key("POWER_OFF_ON_HALT", Form::Flag, "0"),
    key("PSU_MAX_CURRENT", Form::Number(0, U32), ""),
    key("PXE_OPTION43", Form::Any, "Raspberry Pi Boot"),
    key("REBOOT_ON_FATAL_ERROR", Form::Flag, "1"),
    key("SDRAM_BANKLOW", Form::Any, ""),
    key("SD_BOOT_MAX_RETRIES", Form::Number(-1, U32), "0"),
    key("SD_OVERCURRENT_CHECK", Form::Flag, ""),
    key("SD_QUIRKS", Form::Any, ""),
    key("SIGNED_BOOT", Form::Flag, "0"),
    key("SUBNET", Form::Address, ""),
    key("TFTP_FILE_TIMEOUT", Form::Number(5000, U32), "30000"),
    key("TFTP_IP", Form::Address, ""),
    key("TFTP_PREFIX", Form::Number(0, 2), "0"),
    key("TFTP_PREFIX_STR", Form::Text(32), ""),
    key("UART_BAUD", Form::Any, ""),
    key("USB_DEV_BOOT_MAX_RETRIES", Form::Any, ""),
    key("USB_DEV_FILE_TIMEOUT", Form::Any, ""),
    key("USB_MSD_DISCOVER_TIMEOUT", Form::Number(5000, U32), "20000"),
    key("USB_MSD_EXCLUDE_VID_PID", Form::Any, ""),
    key("USB_MSD_LUN_TIMEOUT", Form::Number(100, U32), "2000"),
    key("USB_MSD_PWR_OFF_TIME", Form::Number(0, 5000), "1000"),
    key("USB_MSD_STARTUP_DELAY", Form::Number(0, 30000), "0"),
    key("USE_IPV6", Form::Flag, "0"),
    key("VL805", Form::Flag, "0"),
    key("WAIT_FOR_POWER_BUTTON", Form::Flag, "0"),
    key("WAKE_ON_GPIO", Form::Flag, "1"),
    key("XHCI_DEBUG", Form::Any, ""),
];

const fn key(name: &'static str, form: Form, default: &'static str) -> Key {
    Key { name, form, default }
}

/// The setting of this name. Names are told apart by case too.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The name that was probably meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let likeness = |key: &Key| strsim::jaro_winkler(&name, key.name);
    let best = KEYS.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(best) > 0.85).then_some(best.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        assert!(KEYS.is_sorted_by_key(|key| key.name));
        for (typed, meant) in [
            ("BOOTORDER", Some("BOOT_ORDER")),
            ("boot_order", Some("BOOT_ORDER")),
            ("HTTP_HOSTS", Some("HTTP_HOST")),
            ("HTTP_CA_HASH", Some("HTTP_CACERT_HASH")),
            ("NET_INSTALL_POWER_ON", Some("NET_INSTALL_AT_POWER_ON")),
            ("COLOUR", None),
        ] {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
    }

    /// The names are in the code of the real image, but for those of other boards, of Linux, and of packed code.
    #[test]
    fn the_names_are_those_of_a_real_image() {
        let image = include_bytes!("../../tests/data/eeprom/pieeprom-2711-2026-05-17.bin");
        let elsewhere = ["IMAGER_REPO_URL", "PCIE_PROBE"];
        let missing: Vec<_> = KEYS
            .iter()
            .map(|key| key.name)
            .filter(|name| !image.windows(name.len()).any(|window| window == name.as_bytes()))
            .collect();
        assert_eq!(missing, elsewhere);
    }
}
