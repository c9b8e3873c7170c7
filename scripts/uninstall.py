#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""uninstall.py BUILD [DESTDIR] - remove what `meson install` of this build installs

It asks Meson for the list, not the log of the last installation, which may have been into
another DESTDIR.
"""
import json
import os
import subprocess
import sys


def installed_by(build):
    said = subprocess.run(['meson', 'introspect', '--installed', build], check=True,
                          stdout=subprocess.PIPE, text=True).stdout
    return sorted(json.loads(said).values())


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit('usage: uninstall.py BUILD [DESTDIR]')
    build, destdir = sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else ''
    removed, folders = 0, set()
    for path in installed_by(build):
        path = destdir + path
        if os.path.lexists(path):
            try:
                os.unlink(path)
            except OSError as err:
                sys.exit(f'uninstall.py: cannot remove {path}: {err.strerror}; '
                         f'{removed} files were removed before it')
            removed += 1
        folders.add(os.path.dirname(path))
    # folders of our own, which nobody else has put anything into
    for folder in sorted(folders, key=len, reverse=True):
        if os.path.basename(folder) == 'invlock' and os.path.isdir(folder) \
                and not os.listdir(folder):
            os.rmdir(folder)
    print(f'removed {removed} files' if removed else
          f'nothing of this build is installed below {destdir or "/"}: was another PREFIX given?')


if __name__ == '__main__':
    main()
