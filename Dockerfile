# unmask with its page: needs no network, no home folder and no writable root; see docs/serve.md.
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src ./src
RUN python -m venv /opt/unmask && /opt/unmask/bin/pip install --no-cache-dir ".[web,c2pa]"

FROM python:3.12-slim
COPY --from=build /opt/unmask /opt/unmask
ENV PATH=/opt/unmask/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["unmask"]
CMD ["--help"]
