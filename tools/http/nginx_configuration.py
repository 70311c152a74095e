"""Prints the path of a configuration of nginx: docs/nginx.conf at a port of its own, in front of a service.

Usage: nginx_configuration.py DIRECTORY PORT UPSTREAM
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parent.parent.parent


def configuration(directory, port, upstream):
    """The documented file, at these ports, without TLS: it ends before Daybook."""
    text = (ROOT / "docs" / "nginx.conf").read_text(encoding="utf-8")
    text = re.sub(r"\n\s*ssl_certificate[^\n]*", "", text)
    text = text.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};").replace("127.0.0.1:8080", upstream)
    assert f"listen 127.0.0.1:{port}" in text and upstream in text
    path = pathlib.Path(directory) / "nginx.conf"
    temporary = "".join(f"{kind}_temp_path {directory}/{kind};\n" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    path.write_text(f"daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log {directory}/error.log;\n"
                    f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{text}\n}}\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    print(configuration(sys.argv[1], sys.argv[2], sys.argv[3]))
