"""Models as files for other programs: ONNX, ExportedProgram, safetensors; each proved against torch."""
