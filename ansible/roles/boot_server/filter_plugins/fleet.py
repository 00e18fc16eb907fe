"""Reads a fleet.toml on the machine that runs Ansible."""

import tomllib


def fleet_dhcp(text):
    """The table dhcp, however it is written; empty where there is none.

    So it is for a file that is no TOML: `http-boot check` says what is wrong with it, and this role runs it.
    """
    try:
        return tomllib.loads(text).get("dhcp", {})
    except tomllib.TOMLDecodeError:
        return {}


class FilterModule:
    """The filters of this role."""

    def filters(self):
        return {"fleet_dhcp": fleet_dhcp}
