"""A BERT in a file of ONNX, whose matrices have no names and lie turned: it comes back whole."""

from pathlib import Path

import pytest
import torch
from conftest import tiny_model
from transformers import AutoModel, BertModel

from lorax_lab.models.onnx_bert import PREFIX, save_bert


def write_onnx(model: BertModel, path: Path) -> None:
    """The weights as an exporter leaves them: each matrix turned, without its name, in a product to which its bias is
    added, the bias once as the first and once as the second input."""
    from onnx import helper, numpy_helper, save

    arrays = {PREFIX + name: tensor.detach().numpy() for name, tensor in model.named_parameters()}
    nodes = []
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    for i, name in enumerate(linear):
        arrays[f"onnx::MatMul_{i}"] = arrays.pop(f"{PREFIX}{name}.weight").T.copy()
        nodes.append(helper.make_node("MatMul", ["x", f"onnx::MatMul_{i}"], [f"product_{i}"]))
        inputs = [f"product_{i}", f"{PREFIX}{name}.bias"]
        nodes.append(helper.make_node("Add", inputs[:: -1 if i % 2 else 1], [f"y_{i}"]))
    nodes.append(helper.make_node("MatMul", ["y_0", "y_1"], ["scores"]))  # of two activations
    initializers = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    save(helper.make_model(helper.make_graph(nodes, "bert", [], [], initializers)), path)


def test_every_weight_comes_back(model_folder: Path, tmp_path: Path) -> None:
    whole = tiny_model("bert").base_model
    model = BertModel(whole.config, add_pooling_layer=False)
    write_onnx(model, tmp_path / "tiny.onnx")
    sizes = {key: value for key, value in model.config.to_diff_dict().items() if isinstance(value, int)}
    save_bert(tmp_path / "tiny.onnx", model_folder, sizes, tmp_path / "made")
    loaded, loading = AutoModel.from_pretrained(tmp_path / "made", add_pooling_layer=False, output_loading_info=True)
    assert not any(loading.values())
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.network
def test_the_real_encoder_of_three_layers_tells_paraphrases() -> None:
    from transformers import AutoTokenizer

    from lorax_lab.models import resolve

    folder = resolve("minilm_l3")
    model, tokenizer = AutoModel.from_pretrained(folder, add_pooling_layer=False), AutoTokenizer.from_pretrained(folder)
    assert sum(parameter.numel() for parameter in model.parameters()) == 17_241_984
    texts = ["A man is eating food.", "Someone is having a meal.", "The stock market fell.", "Shares dropped a lot."]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = model.eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    means = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))
    alike = means @ means.T
    assert min(alike[0, 1], alike[2, 3]) > 0.3 > 0.15 > alike[:2, 2:].max()
