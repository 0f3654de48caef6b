"""An emulated region and a client of it."""

import dataclasses

import msgspec

from groupage.contract import Endpoint
from groupage_emulator.emulator import Emulator
from groupage_worker.azure.client import AzureClient

PROFILES = {
    "2024-07-01-preview": {"api": "azure-dated", "api_version": "2024-07-01-preview"},
    "2024-10-21": {"api": "azure-dated", "api_version": "2024-10-21"},
    "v1": {"api": "azure-v1"},
    "openai": {"api": "openai"},
}
EXPIRY_S = 1_209_600
DEPLOYMENT = "gpt-4o-mini-batch"


@dataclasses.dataclass
class Service:
    """An emulated region and a client of it."""

    emulator: Emulator
    client: AzureClient
    records: list

    @property
    def region(self):
        """The only one."""
        return self.emulator.regions["eastus"]

    def lines(self, count=3, *, model=DEPLOYMENT, url=None, endpoint=Endpoint.CHAT):
        """An input file."""
        content = (
            {"input": "hello"}
            if endpoint is Endpoint.RESPONSES
            else {"messages": [{"role": "user", "content": "hello"}]}
        )
        return b"".join(
            msgspec.json.encode(
                {
                    "custom_id": f"shop:{number}",
                    "method": "POST",
                    "url": url or self.client.line_url(endpoint),
                    "body": {"model": model} | content,
                }
            )
            + b"\n"
            for number in range(count)
        )

    async def upload(self, path, content, *, expires_after_s=EXPIRY_S):
        """Upload, and let the service process it."""
        path.write_bytes(content)
        file = await self.client.upload(path, name="groupage-c-b1-a1.jsonl", expires_after_s=expires_after_s)
        await self.emulator.clock.advance(60)
        return file

    async def create(self, file_id, *, endpoint=Endpoint.CHAT):
        """Create a batch."""
        return await self.client.create_batch(
            input_file_id=file_id,
            endpoint=endpoint,
            metadata={"groupage_cluster": "c", "groupage_batch": "b1"},
            expires_after_s=EXPIRY_S,
        )
