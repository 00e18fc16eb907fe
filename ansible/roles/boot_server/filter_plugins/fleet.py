"""Reads a fleet.toml on the machine that runs Ansible."""

import tomllib

from ansible.errors import AnsibleFilterError


def fleet_dhcp(text, lenient=False):
    """The table dhcp, however it is written; empty where there is none.

    The server reads TOML 1.1, and Python's tomllib TOML 1.0. What only the server reads is refused: taken for a file without
    the table, it would cost the server its rights. Lenient: it counts as none.
    """
    try:
        dhcp = tomllib.loads(text).get("dhcp")
    except tomllib.TOMLDecodeError as error:
        if lenient:
            return {}
        raise AnsibleFilterError(
            f"the fleet's file is no TOML 1.0, which is what Ansible's Python reads: {error}"
        ) from error
    return dhcp if isinstance(dhcp, dict) else {}


class FilterModule:
    """The filters of this role."""

    def filters(self):
        return {"fleet_dhcp": fleet_dhcp}
