"""Models of other libraries, each made from a configuration of vocab_size, seq_len, d_model, n_heads, depth, ..."""

from torch import nn


def torch_encoder(c):
    """torch.nn's: hidden states [B, T, D] are enough, attnlib averages them and adds a head."""
    layer = nn.TransformerEncoderLayer(c.d_model, c.n_heads, 4 * c.d_model, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, c.depth, enable_nested_tensor=False)
    return nn.Sequential(nn.Embedding(c.vocab_size, c.d_model), encoder)


def x_transformers(c):
    """x-transformers': logits [B, n_classes] are taken as they are."""
    from x_transformers import Encoder, TransformerWrapper

    layers = Encoder(dim=c.d_model, depth=c.depth, heads=c.n_heads, attn_dim_head=c.head_width)
    return TransformerWrapper(
        num_tokens=c.vocab_size,
        max_seq_len=c.seq_len,
        attn_layers=layers,
        logits_dim=c.n_classes,
        average_pool_embed=True,
    )


def bert(c):
    """transformers' BERT of random weights."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.d_model,
        num_hidden_layers=c.depth,
        num_attention_heads=c.n_heads,
        intermediate_size=4 * c.d_model,
        max_position_embeddings=c.seq_len,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertModel(config, add_pooling_layer=False)


def llama(c):
    """transformers' Llama of random weights, which brings its own rotary encoding and mask."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.d_model,
        num_hidden_layers=c.depth,
        num_attention_heads=c.n_heads,
        intermediate_size=4 * c.d_model,
        max_position_embeddings=c.seq_len,
        use_cache=False,
    )
    return LlamaModel(config)
