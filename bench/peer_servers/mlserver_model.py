"""A model of MLServer: a session of ONNX Runtime."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from onnx_models import answer, session


class OnnxModel(MLModel):
    """Loads the file that its settings name."""

    async def load(self) -> bool:
        """Open the model."""
        self.session = session(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run one request."""
        x = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        output = NumpyCodec.encode_output("output", answer(self.session, x))
        return InferenceResponse(model_name=self.name, outputs=[output])
