"""A package index of the tests' own: small pure wheels, listed as PEP 503 or PEP 691 say, with or without login."""

import base64
import hashlib
import io
import json
import zipfile

from tests.e2e.environment_web import Page, sha256

JSON_TYPE = "application/vnd.pypi.simple.v1+json"


def wheel(name, version, *, needs=(), code="", tamper=False, extra=None):
    """Return file name and bytes of a wheel with one module and one script, both called as the package."""
    info = f"{name}-{version}.dist-info"
    code = code or f"VERSION = {version!r}\n\n\ndef main():\n    print({name!r}, VERSION)\n"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": "\n".join(
            ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {n}" for n in needs), ""]
        ),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-run = {name}:main\n",
        **(extra or {}),
    }
    rows = [f"{path},sha256={_sum(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    if tamper:
        files[f"{name}.py"] = code.replace("VERSION", "VERSI0N")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2024, 1, 1, 0, 0, 0)), text)
    return f"{name}-{version}-py3-none-any.whl", buffer.getvalue()


def _sum(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class Index:
    """Packages on a `Web`, below `/simple/`."""

    def __init__(self, web, *, login="", prefix="", is_html=False):
        self.web, self.login, self.prefix, self.is_html = web, login, prefix, is_html
        self.packages = {}

    @property
    def url(self):
        return self.web.url(f"{self.prefix}/simple/")

    def add(self, name, version, *, day="2024-01-01", broken=b"", **options):
        file, data = wheel(name, version, **options)
        data = broken or data
        self.web.pages[f"{self.prefix}/files/{file}"] = Page(body=data, login=self.login)
        url = self.web.url(f"{self.prefix}/files/{file}")
        listed = {"filename": file, "url": url, "hashes": {"sha256": sha256(data)}, "upload-time": f"{day}T00:00:00Z"}
        self.packages.setdefault(name, []).append({**listed, "size": len(data)})
        self._list(name)
        return url

    def _list(self, name):
        files = self.packages[name]
        if self.is_html:
            links = (f'<a href="{file["url"]}#sha256={file["hashes"]["sha256"]}">{file["filename"]}</a>' for file in files)
            body, kind = "<!DOCTYPE html><html><body>" + "".join(links) + "</body></html>", "text/html"
        else:
            versions = [file["filename"].split("-")[1] for file in files]
            told = {"meta": {"api-version": "1.1"}, "name": name, "files": files, "versions": versions}
            body, kind = json.dumps(told), JSON_TYPE
        path = f"{self.prefix}/simple/{name}/"
        self.web.pages[path] = Page(body=body.encode(), headers={"Content-Type": kind}, login=self.login)

    def asked(self):
        return [path for path, _ in self.web.seen if path.startswith(f"{self.prefix}/")]
